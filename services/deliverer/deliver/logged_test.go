package deliver_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/steptest"
)

// A logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// attempted counts the lines of attempts by delivery.
func (b *logBuffer) attempted(t *testing.T) map[uuid.UUID]int {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	counts := map[uuid.UUID]int{}
	for line := range strings.Lines(b.buf.String()) {
		var one struct {
			Message    string    `json:"message"`
			DeliveryID uuid.UUID `json:"delivery_id"`
		}
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if one.Message == "delivery attempted" {
			counts[one.DeliveryID]++
		}
	}
	return counts
}

func TestEachHostileReceiverIsLoggedOnce(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	type sent struct {
		hostility
		delivery.Delivery
	}
	var all []sent
	for _, h := range hostilities(t) {
		if h.large { // an event is not
			continue
		}
		_, d := record(e, e.Endpoint(alice, hostile(t, h.tls, h.do).url))
		all = append(all, sent{h, d})
	}
	cfg := config(e)
	cfg.Schedule, cfg.Concurrency, cfg.AttemptTimeout = nil, len(all), 5*time.Second
	deps := e.Deps("deliverer")
	log := new(logBuffer)
	deps.Log = zerolog.New(log)
	w, err := deliver.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	stop := e.Run(w)
	for _, s := range all {
		publish(e, s.Delivery)
	}
	e.Await("no delivery pending", `SELECT NOT EXISTS (SELECT FROM deliveries WHERE status = 'pending')`)
	drainMessages(e)
	stop()
	lines := log.attempted(t)
	for _, s := range all {
		outcome := "success"
		if s.class != "" {
			outcome = "failure"
		}
		t.Run(s.name, func(t *testing.T) {
			wantAttempts(e, s.Delivery, attempt{1, outcome, s.code, s.class})
			if lines[s.ID] != 1 {
				t.Errorf("logged %d times", lines[s.ID])
			}
		})
	}
	if n := e.Count(`SELECT count(*) FROM attempts WHERE octet_length(response_body) > 65536 OR octet_length(response_headers) > 8192`); n != 0 {
		t.Errorf("%d attempts keep more than they may", n)
	}
	if n := e.Count(`SELECT count(*) FROM attempts WHERE request_headers IS NULL OR address_class IS DISTINCT FROM 'allowed'
		OR trigger IS DISTINCT FROM 'event' OR dns_ms IS NOT NULL OR connect_ms IS NULL OR first_byte_ms IS NULL AND response_code IS NOT NULL`); n != 0 {
		t.Errorf("%d attempts lack how they went", n)
	}
	if n := e.Count(`SELECT count(*) FROM attempts WHERE strpos(convert_from(request_headers, 'UTF8'), E'Webhook-Signature: v1,… (1)\n') = 0`); n != 0 {
		t.Errorf("%d attempts don't show their request", n)
	}
}
