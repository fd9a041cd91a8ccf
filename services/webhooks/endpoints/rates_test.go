package endpoints

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestRates(t *testing.T) {
	t.Parallel()
	s := serverSet(t, pgtest.New(t), func(c *Config) {
		c.MaxEndpoints, c.CreateRate, c.TestRate, c.ResendRate, c.RecoverRate = 1000, 3, 2, 2, 2
	})
	now := time.Now()
	s.now = func() time.Time { return now }
	e, bobs := s.create(t, alice), s.create(t, bob)
	d := s.deliver(t, e.ID, 1)[0]
	s.finishedRecovery(t, e.ID)
	path := "/api/webhooks/" + e.ID.String()
	for _, tt := range []struct {
		name, path string
		body       any
		burst      int // left
	}{
		{"registrations", "/api/webhooks", register1, 2},
		{"test events", path + "/test", nil, 2},
		{"resends", path + "/deliveries/" + d.ID.String() + "/resend", nil, 2},
		{"recoveries, refused ones included", path + "/recover", tenancy["POST /api/webhooks/{id}/recover"].body, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for n := range tt.burst + 1 {
				a := s.call(t, alice, "POST", tt.path, tt.body)
				if n < tt.burst {
					if a.status == http.StatusTooManyRequests {
						t.Fatalf("request %d: %s", n+1, a.body)
					}
					continue
				}
				wait, err := strconv.Atoi(a.header.Get("Retry-After"))
				if a.status != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 30 ||
					a.sentence(t) != "too many requests of this kind: try again in "+strconv.Itoa(wait)+" s" {
					t.Errorf("request %d: %d, Retry-After %q, %s", n+1, a.status, a.header.Get("Retry-After"), a.body)
				}
			}
		})
	}
	t.Run("others are not held up", func(t *testing.T) {
		t.Parallel()
		if a := s.call(t, bob, "POST", "/api/webhooks/"+bobs.ID.String()+"/test", nil); a.status != http.StatusAccepted {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("invalid requests don't count", func(t *testing.T) {
		t.Parallel()
		for range 10 {
			if a := s.call(t, bob, "POST", "/api/webhooks", "{}"); a.status != http.StatusBadRequest || !strings.HasPrefix(a.sentence(t), "events: is required") {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
	})
}
