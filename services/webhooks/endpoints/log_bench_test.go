package endpoints

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

// The log that BenchmarkDeliveryLog reads: deliveries over 30 days, every tenth
// of one endpoint, the others of 999 more. LOG_BENCH_ROWS sets how many.
const (
	benchDays = 30
	benchRows = 10_000_000
)

// BenchmarkDeliveryLog measures requests to a large log, by the API's handler.
// Filling it takes minutes.
func BenchmarkDeliveryLog(b *testing.B) {
	rows := benchRows
	if v := os.Getenv("LOG_BENCH_ROWS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			b.Fatal(err)
		}
		rows = n
	}
	s := newServer(b)
	id := s.create(b, alice).ID
	began := time.Now()
	s.fillLog(b, id, rows/benchDays)
	b.Logf("%d deliveries, a tenth of them of the endpoint, filled in %s", rows, time.Since(began).Round(time.Second))

	path := "/api/webhooks/" + id.String()
	first := decode[DeliveryPage](b, s.call(b, alice, "GET", path+"/deliveries?limit=20", nil))
	if want := int64((rows/benchDays + 9) / 10 * benchDays); *first.Pagination.Total != want {
		b.Fatalf("total %d, want %d", *first.Pagination.Total, want)
	}
	month := time.Now().Add(-benchDays * 24 * time.Hour).UTC().Format(time.RFC3339)
	half := time.Now().Add(-benchDays * 12 * time.Hour).UTC().Format(time.RFC3339)
	for _, bb := range []struct{ name, path string }{
		{"first page and total", "/deliveries?limit=20"},
		{"first page of 100", "/deliveries?limit=100"},
		{"page 1000 of 100", "/deliveries?limit=100&page=1000"},
		{"cursor page", "/deliveries?limit=20&cursor=" + *first.Pagination.NextCursor},
		{"cursor page in the middle", "/deliveries?limit=20&until=" + half},
		{"cursor page of what failed, 1 in 50", "/deliveries?limit=20&status=failed&until=" + half},
		{"filter that nothing matches", "/deliveries?limit=20&eventType=nobody.asked"},
		{"filter that nothing matches, of a range", "/deliveries?limit=20&eventType=nobody.asked&since=" + month + "&until=" + half},
		{"a delivery", "/deliveries/" + first.Data[0].ID.String()},
		{"summary", "/summary"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				a := s.call(b, alice, "GET", path+bb.path, nil)
				took = append(took, time.Since(began))
				if a.status != 200 {
					b.Fatalf("%d %s", a.status, a.body)
				}
			}
			b.ReportMetric(ms(took[0]), "first-ms")
			report(b, took)
		})
	}
	s.explain(b, id)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
}

// fillLog writes perDay deliveries of each of the last days. Only those of the
// endpoint have events and attempts.
func (s *server) fillLog(b *testing.B, id uuid.UUID, perDay int) {
	b.Helper()
	exec := func(sql string, args ...any) {
		b.Helper()
		if _, err := s.db.Exec(b.Context(), sql, args...); err != nil {
			b.Fatal(err)
		}
	}
	now := time.Now().UTC()
	if _, err := db.New(s.db).EnsurePartitions(b.Context(), db.EnsurePartitionsParams{FromDay: now.AddDate(0, 0, -benchDays), ToDay: now.AddDate(0, 0, 3)}); err != nil {
		b.Fatal(err)
	}
	exec(`ALTER TABLE deliveries DISABLE TRIGGER count_deliveries`)
	for d := range benchDays {
		from := now.Add(-time.Duration(benchDays-d) * 24 * time.Hour)
		exec(`INSERT INTO deliveries (id, event_id, endpoint_id, event_type, status, reason, attempts, failures, next_attempt_at, response_code, error_message, delivered_at)
			SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid,
			       (lpad(to_hex(ms), 12, '0') || '7' || substr(h, 5, 3) || '8' || substr(h, 8, 15))::uuid,
			       CASE WHEN n % 10 = 0 THEN $1 ELSE md5((n % 999)::text)::uuid END,
			       CASE WHEN n % 3 = 0 THEN 'contact.saved' ELSE 'card.viewed' END,
			       CASE WHEN n % 500 = 0 THEN 'failed' ELSE 'success' END, CASE WHEN n % 500 = 0 THEN 'exhausted' END,
			       CASE WHEN n % 500 = 0 THEN 4 ELSE 1 END, CASE WHEN n % 500 = 0 THEN 4 ELSE 0 END, NULL,
			       CASE WHEN n % 500 = 0 THEN 503 ELSE 200 END, CASE WHEN n % 500 = 0 THEN 'The receiver answered 503.' END,
			       CASE WHEN n % 500 <> 0 THEN to_timestamp(ms / 1000.0) END
			FROM (SELECT n, $2::bigint + n::bigint * 86399000 / $3 AS ms, md5(n::text || $2) AS h FROM generate_series(0, $3 - 1) AS n) AS x`,
			id, from.UnixMilli(), perDay)
	}
	exec(`INSERT INTO delivery_counts (endpoint_id, day, n) SELECT endpoint_id, id_day(id), count(*) FROM deliveries GROUP BY 1, 2`)
	exec(`ALTER TABLE deliveries ENABLE TRIGGER count_deliveries`)
	exec(`INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq)
		SELECT event_id, $2, event_type, '{"type":"card.viewed","timestamp":"2026-08-02T17:45:09.5Z","data":{"cardId":null,"viewerId":null,"username":"alice","source":"link"}}', created_at, 1
		FROM deliveries WHERE endpoint_id = $1`, id, alice)
	exec(`INSERT INTO attempts (delivery_id, n, endpoint_id, finished_at, outcome, response_code, duration_ms, trigger)
		SELECT id, 1, endpoint_id, clock_timestamp(), 'success', 200, 50 + random() * 200, 'event' FROM deliveries WHERE endpoint_id = $1`, id)
	exec(`VACUUM ANALYZE events`)
	exec(`VACUUM ANALYZE deliveries`)
	exec(`VACUUM ANALYZE attempts`)
}

// explain logs how PostgreSQL reads the pages, with parameters known and unknown to the planner.
func (s *server) explain(b *testing.B, id uuid.UUID) {
	b.Helper()
	conn, err := s.db.Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	q := db.New(conn)
	day := delivery.Floor(time.Now().Add(-summaryTime))
	for _, query := range []struct {
		name, args string
		run        func() error
	}{
		{"ListDeliveries", fmt.Sprintf("('%s', 0, 21)", id), func() error {
			_, err := q.ListDeliveries(b.Context(), db.ListDeliveriesParams{EndpointID: id, MaxRows: 21})
			return err
		}},
		{"ScanDeliveries", fmt.Sprintf("('%s', '%s', '%s', %d, 'failed', '', 21)", id, uuid.Nil, uuid.Max, maxExamined), func() error {
			_, err := q.ScanDeliveries(b.Context(), db.ScanDeliveriesParams{EndpointID: id, Before: uuid.Max, MaxExamined: maxExamined, Status: "failed", MaxRows: 21})
			return err
		}},
		{"SummarizeDeliveries", fmt.Sprintf("('%s', '%s', %d)", day, id, maxSummarized), func() error {
			_, err := q.SummarizeDeliveries(b.Context(), db.SummarizeDeliveriesParams{EndpointID: id, Low: day, MaxExamined: maxSummarized})
			return err
		}},
	} {
		if err := query.run(); err != nil {
			b.Fatal(err)
		}
		var statement string
		if err := conn.QueryRow(b.Context(), `SELECT name FROM pg_prepared_statements WHERE statement LIKE '-- name: ' || $1 || ' %'`, query.name).Scan(&statement); err != nil {
			b.Fatal(err)
		}
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			if _, err := conn.Exec(b.Context(), "SET plan_cache_mode = "+mode); err != nil {
				b.Fatal(err)
			}
			rows, err := conn.Query(b.Context(), "EXPLAIN (ANALYZE, BUFFERS) EXECUTE "+statement+query.args, pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				b.Fatal(err)
			}
			plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				b.Fatal(err)
			}
			plan = slices.DeleteFunc(plan, func(line string) bool { return strings.Contains(line, "never executed") })
			b.Logf("%s, %s:\n%s", query.name, mode, strings.Join(plan, "\n"))
		}
	}
}

// BenchmarkRequests measures registering, listing and getting endpoints over
// HTTP at a steady 200 requests/s, whatever the answers take.
func BenchmarkRequests(b *testing.B) {
	const (
		perSecond = 200
		requests  = 10 * perSecond
	)
	s := newServer(b)
	id := s.create(b, alice).ID.String()
	web := httptest.NewServer(s.handler)
	b.Cleanup(web.Close)
	web.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = perSecond
	kinds := []string{"register", "list", "get"}
	took := make([][]time.Duration, len(kinds))
	for b.Loop() {
		var (
			mu    sync.Mutex
			calls sync.WaitGroup
			tick  = time.NewTicker(time.Second / perSecond)
		)
		for n := range requests {
			at := <-tick.C
			kind := n % len(kinds)
			r, err := s.benchRequest(b, web.URL, kind, id)
			if err != nil {
				b.Fatal(err)
			}
			calls.Go(func() {
				answer, err := web.Client().Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
				if err != nil || answer.StatusCode >= 300 {
					b.Errorf("%s: %d, %v", kinds[kind], answer.StatusCode, err)
				}
				mu.Lock()
				defer mu.Unlock()
				took[kind] = append(took[kind], time.Since(at))
			})
		}
		calls.Wait()
		tick.Stop()
	}
	for kind, list := range took {
		slices.Sort(list)
		b.ReportMetric(ms(list[len(list)/2]), kinds[kind]+"-p50-ms")
		b.ReportMetric(ms(list[len(list)*99/100]), kinds[kind]+"-p99-ms")
	}
}

// benchRequest registers an endpoint of a new user, or lists or gets those of alice.
func (s *server) benchRequest(b *testing.B, url string, kind int, id string) (*http.Request, error) {
	method, path, user, body := "GET", "/api/webhooks", alice, ""
	switch kind {
	case 0:
		method, user, body = "POST", uuid.New(), `{"url":"https://example.com/hook","events":["card.viewed"]}`
	case 2:
		path += "/" + id
	}
	r, err := http.NewRequestWithContext(b.Context(), method, url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token(b, user))
	return r, nil
}
