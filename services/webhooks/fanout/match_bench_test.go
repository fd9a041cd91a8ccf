package fanout

import (
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/sql/db"
)

// BenchmarkMatch is a batch of 500 events of a user with 5,000 endpoints, by
// chunk, as handle goes through it. held-MB is the most that was live at the end
// of a chunk, endpoints included.
func BenchmarkMatch(b *testing.B) {
	for _, bb := range []struct {
		name, pattern string
		filter        []byte
	}{
		{"exact", "card.viewed", nil},
		{"prefix", "card.*", nil},
		{"filter", "card.viewed", []byte(`{"source":["qr","nfc"],"amount":{"gte":1}}`)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			user, now := uuid.New(), time.Now()
			var before, held runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			rows := make([]db.MatchEndpointsRow, 5000)
			for i := range rows {
				rows[i] = db.MatchEndpointsRow{ID: uuid.New(), UserID: user, Events: []string{bb.pattern}, Filter: bb.filter, CreatedAt: now}
			}
			items := make([]*item, 500)
			for i := range items {
				items[i] = &item{event: events.Event{UserID: user, Type: events.CardViewed, Body: []byte(`{"data":{"source":"qr","amount":5}}`)}, at: now}
			}
			var most uint64
			first := true
			for b.Loop() {
				m := newMatcher(rows)
				for from, to := range chunks(items, m.match) {
					if first && from%100 == 0 {
						runtime.GC()
						runtime.ReadMemStats(&held)
						most = max(most, held.HeapAlloc-before.HeapAlloc)
					}
					for _, it := range items[from:to] {
						it.matches = nil
					}
				}
				first = false
			}
			b.ReportMetric(float64(most)/1e6, "held-MB")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/event")
		})
	}
}
