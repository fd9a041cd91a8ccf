package endpoints

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestRatesOfEachUser(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		operation, body string
		set             func(c *Config, perMinute int)
	}{
		{"POST /api/webhooks", registration("x"), func(c *Config, n int) { c.CreateRate = n }},
		{"POST /api/webhooks/{id}/test", "", func(c *Config, n int) { c.TestRate = n }},
		{"POST /api/webhooks/{id}/recover", `{"since":"{now}"}`, func(c *Config, n int) { c.RecoverRate = n }},
		{"POST /api/webhooks/{id}/deliveries/{deliveryId}/resend", "", func(c *Config, n int) { c.ResendRate = n }},
	} {
		t.Run(tt.operation, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			free := serverOn(t, pool)
			id := free.create(t, alice).ID
			d := free.deliver(t, id, 1)[0]
			fill := strings.NewReplacer("{id}", id.String(), "{deliveryId}", d.ID.String(), "{now}", rfc(d.event.Time.UTC()))
			path, body := fill.Replace(strings.TrimPrefix(tt.operation, "POST ")), fill.Replace(tt.body)
			call := func(s *server, user uuid.UUID, key string) answer {
				s.exec(t, `UPDATE recoveries SET finished_at = now()`) // one at a time
				return s.keyed(t, user, key, path, body)
			}
			limited := func() *server {
				return changedServer(t, pool, func(c *Config) { tt.set(c, 2) })
			}

			s := limited()
			first := call(s, alice, "first")
			sameAnswer(t, first, call(s, alice, "first"))
			if a := call(s, alice, "second"); a.status != first.status {
				t.Fatalf("within the rate: %d %s", a.status, a.body)
			}
			a := call(s, alice, "third")
			checkProblem(t, a)
			seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
			if err != nil || seconds < 1 || seconds > 30 || a.status != 429 || a.sentence(t) != fmt.Sprintf("too many requests of this kind: try again in %d s", seconds) {
				t.Errorf("beyond the rate: %d, Retry-After %q, %s", a.status, a.header.Get("Retry-After"), a.body)
			}
			sameAnswer(t, first, call(s, alice, "first")) // replays are free
			if b := call(s, bob, "b"); b.status == 429 {
				t.Errorf("another user: %d %s", b.status, b.body)
			}
			if g := s.call(t, alice, "GET", "/api/webhooks", nil); g.status != 200 {
				t.Errorf("another route: %d %s", g.status, g.body)
			}
			if b := call(limited(), alice, "third"); b.status != first.status {
				t.Errorf("another replica, with a key that was refused: %d %s", b.status, b.body)
			}
			if b := call(free, alice, "fourth"); b.status != first.status {
				t.Errorf("without limit: %d %s", b.status, b.body)
			}
			documented := responses(t, s, tt.operation)
			if documented["429"]["Retry-After"] == nil || documented[strconv.Itoa(first.status)]["Idempotency-Replayed"] == nil {
				t.Errorf("headers are documented as %v", documented)
			}
		})
	}
}

// A burst spent on what was refused for other reasons is spent: it had its cost.
func TestRefusalsCostTheRate(t *testing.T) {
	t.Parallel()
	s := changedServer(t, pgtest.New(t), func(c *Config) { c.TestRate = 1 })
	path := "/api/webhooks/" + uuid.NewString() + "/test"
	for _, status := range []int{404, 429, 429} {
		if a := s.call(t, alice, "POST", path, nil); a.status != status {
			t.Errorf("%d %s, want %d", a.status, a.body, status)
		}
	}
}
