package deliver_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// BenchmarkClaimAndSettle is one delivery, or a batch of them, claimed, read and
// settled, by how many daily partitions there are and how PostgreSQL plans.
func BenchmarkClaimAndSettle(b *testing.B) {
	for _, days := range []int{4, 34} {
		for _, mode := range []string{"auto", "force_generic_plan"} {
			for _, batch := range []int{1, 100} {
				b.Run(fmt.Sprintf("%d days/%s/batch of %d", days, mode, batch), func(b *testing.B) { claimAndSettle(b, days, mode, batch) })
			}
		}
	}
}

func claimAndSettle(b *testing.B, days int, mode string, batch int) {
	ctx := b.Context()
	conn, err := pgx.Connect(ctx, pgtest.URL(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(ctx) })
	exec := func(sql string, args ...any) {
		if _, err := conn.Exec(ctx, sql, args...); err != nil {
			b.Fatal(err)
		}
	}
	exec("SELECT set_config('plan_cache_mode', $1, false)", mode)
	exec("SELECT ensure_partitions((now() - make_interval(days => $1))::date, now()::date + 1)", days-2)
	q, now, endpoint := db.New(conn), time.Now(), uuid.New()
	exec("INSERT INTO endpoints (id, user_id, url, events) VALUES ($1, $1, 'http://127.0.0.1', '{card.viewed}')", endpoint)
	exec("INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext) VALUES ($1, $1, 'x')", endpoint)
	var p db.StoreEventsParams
	for range b.N * batch {
		id := uuid.Must(uuid.NewV7())
		p.Ids, p.UserIds, p.Types = append(p.Ids, id), append(p.UserIds, endpoint), append(p.Types, "card.viewed")
		p.Bodies, p.OccurredAts, p.StreamSeqs = append(p.Bodies, []byte("{}")), append(p.OccurredAts, now), append(p.StreamSeqs, 1)
		p.DeliveryIds, p.EventIds = append(p.DeliveryIds, delivery.ID(id, endpoint)), append(p.EventIds, id)
		p.EndpointIds, p.EventTypes, p.Triggers = append(p.EndpointIds, endpoint), append(p.EventTypes, "card.viewed"), append(p.Triggers, "event")
	}
	if _, err := q.StoreEvents(ctx, p); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for ids := range slices.Chunk(p.DeliveryIds, batch) {
		low, high := delivery.Bounds(ids)
		rows, err := q.ClaimDeliveries(ctx, db.ClaimDeliveriesParams{Ids: ids, Low: low, High: high, MaxInterruptions: 10, Early: 1, Lease: 20})
		if err != nil || len(rows) != batch {
			b.Fatal(len(rows), err)
		}
		var s db.SettleAttemptsParams
		for _, r := range rows {
			s.Ids, s.Ns, s.Outcomes = append(s.Ids, r.ID), append(s.Ns, r.N), append(s.Outcomes, "success")
			s.ResponseCodes, s.ErrorClasses, s.ErrorMessages = append(s.ResponseCodes, 200), append(s.ErrorClasses, ""), append(s.ErrorMessages, "")
			s.DurationsMs, s.ResponseHeaders, s.ResponseBodies = append(s.DurationsMs, 1), append(s.ResponseHeaders, []byte("A: b")), append(s.ResponseBodies, []byte("ok"))
			s.Truncated, s.Waits, s.WaitsFor = append(s.Truncated, false), append(s.Waits, 0), append(s.WaitsFor, "")
			s.Reasons, s.Failures, s.DnsMs = append(s.Reasons, ""), append(s.Failures, 0), append(s.DnsMs, -1)
			s.ConnectMs, s.TlsMs, s.FirstByteMs = append(s.ConnectMs, -1), append(s.TlsMs, -1), append(s.FirstByteMs, 1)
			s.AddressClasses, s.RequestHeaders = append(s.AddressClasses, "allowed"), append(s.RequestHeaders, []byte("A: b"))
		}
		s.Answering, s.Low, s.High = []uuid.UUID{endpoint}, p.DeliveryIds[0], p.DeliveryIds[0]
		s.Low, s.High = delivery.Bounds(s.Ids)
		if _, err := q.SettleAttempts(ctx, s); err != nil {
			b.Fatal(err)
		}
	}
}
