package doctor_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/cardwire/doctor"
	"github.com/cardwire/cardwire/services/internal/partitions"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// deployment is a sound one: streams and consumers as the services make them,
// partitions, an endpoint.
func deployment(t *testing.T) (*steptest.Env, doctor.Config, jetstream.JetStream) {
	t.Helper()
	e := steptest.New(t)
	cfg := doctor.Config{
		NATSURL: e.Broker.URL("operator"), DatabaseURL: e.DB.Config().ConnString(), Keyset: e.Serial, Streams: e.Streams,
		Schedule: []time.Duration{30 * time.Second, 5 * time.Minute}, Retention: 30 * 24 * time.Hour,
	}
	js := e.Deps("operator").JS
	for _, s := range []jetstream.StreamConfig{e.Streams.EventsStream(), e.Streams.DeliveriesStream()} {
		if _, err := streams.EnsureStream(t.Context(), js, s); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		stream   string
		consumer jetstream.ConsumerConfig
	}{
		{streams.Events, streams.FanOutConsumer()},
		{streams.Events, streams.CardViewsConsumer()},
		{streams.Deliveries, streams.LaneConsumer(streams.First, streams.AllFirst)},
		{streams.Deliveries, streams.LaneConsumer(streams.Again, streams.AllAgain)},
		{streams.Deliveries, streams.WaitLineConsumer(cfg.Schedule[0])},
		{streams.Deliveries, streams.WaitLineConsumer(cfg.Schedule[1])},
	} {
		if _, err := streams.EnsureConsumer(t.Context(), js, c.stream, c.consumer); err != nil {
			t.Fatal(err)
		}
	}
	today := time.Now().UTC()
	if _, err := db.New(e.DB).EnsurePartitions(t.Context(), db.EnsurePartitionsParams{FromDay: today, ToDay: today.AddDate(0, 0, partitions.Ahead+1)}); err != nil {
		t.Fatal(err)
	}
	e.Endpoint(uuid.New(), "https://example.com/")
	return e, cfg, js
}

func TestASoundDeploymentHasNothingButOK(t *testing.T) {
	t.Parallel()
	_, cfg, _ := deployment(t)
	findings := doctor.Examine(t.Context(), cfg)
	for _, f := range findings {
		durability := f.Check == "durability of postgresql" // the tests' server does without
		if f.Status != doctor.OK && !durability {
			t.Errorf("%+v", f)
		}
	}
	if len(findings) < 18 {
		t.Errorf("only %d findings", len(findings))
	}
}

func TestEachFaultOfADeploymentIsFound(t *testing.T) {
	t.Parallel()
	e, cfg, js := deployment(t)
	other, err := secrets.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(t.Context(), streams.Events, streams.CardViews); err != nil {
		t.Fatal(err)
	}
	e.Exec(`UPDATE outbox SET refused = 'x'`)
	e.Exec(`INSERT INTO outbox (id, user_id, type, body, created_at) VALUES (gen_random_uuid(), gen_random_uuid(), 'a', '', now() - interval '1 h')`)
	e.Exec(`INSERT INTO outbox (id, user_id, type, body, refused) VALUES (gen_random_uuid(), gen_random_uuid(), 'a', '', 'invalid')`)
	e.Exec(`INSERT INTO dead_events (id, stream_seq, subject, headers, body, reason) VALUES (gen_random_uuid(), 1, 's', '', '', 'r')`)
	e.Exec(`INSERT INTO deliveries (id, event_id, endpoint_id, event_type, next_attempt_at) VALUES ($1, $1, $1, 'a', now() - interval '1 h')`, uuid.Must(uuid.NewV7()))
	gone := "attempts_p" + time.Now().UTC().AddDate(0, 0, 1).Format("20060102")
	e.Exec(`DROP TABLE ` + gone)
	older := streams.LaneConsumer(streams.First, streams.AllFirst)
	older.AckWait = 20 * time.Second
	if _, err := streams.EnsureConsumer(t.Context(), js, streams.Deliveries, older); err != nil {
		t.Fatal(err)
	}
	cfg.Keyset = other
	cfg.Retention = 5 * time.Minute
	cfg.Streams.EventsMaxAge = 2 * time.Hour
	cfg.Streams.Replicas = 3
	findings := doctor.Examine(t.Context(), cfg)
	for _, tt := range []struct {
		name, check string
		status      doctor.Status
		detail      string
	}{
		{"a consumer is gone", "consumer card-views of EVENTS", doctor.Fail, "does not exist"},
		{"a stream has another age", "stream EVENTS", doctor.Warn, "max age is 720h0m0s, should be 2h0m0s"},
		{"a stream has fewer copies", "stream DELIVERIES", doctor.Warn, "replicas is 1, should be 3; persist mode is Async, should be Default"},
		{"a lane has the ack wait of an older version", "consumer first of DELIVERIES", doctor.Warn, "ack wait is 20s, should be 5s"},
		{"secrets are sealed by another keyset", "encryption keyset", doctor.Fail, "1 of 1 secrets don't open"},
		{"a partition of the coming days is missing", "partitions", doctor.Fail, gone},
		{"a delivery is due for an hour", "deliveries", doctor.Warn, "1h0m"},
		{"an event waits in the outbox for an hour", "outbox", doctor.Warn, "1 events wait, the oldest for 1h0m"},
		{"an outbox row is no event", "outbox", doctor.Warn, "1 rows are no events"},
		{"there are dead events", "dead events", doctor.Warn, "1 messages were no events"},
		{"retries take longer than data is kept", "retention", doctor.Fail, "dropped while they wait"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found(t, findings, tt.check, tt.status, tt.detail)
		})
	}
}

func TestWhatIsAwayIsOneFinding(t *testing.T) {
	t.Parallel()
	_, cfg, _ := deployment(t)
	cfg.NATSURL, cfg.DatabaseURL = "nats://127.0.0.1:1", "postgres://127.0.0.1:1/x"
	findings := doctor.Examine(t.Context(), cfg)
	if len(findings) != 3 {
		t.Errorf("%d findings: %+v", len(findings), findings)
	}
	found(t, findings, "broker", doctor.Fail, "does not answer")
	found(t, findings, "postgresql", doctor.Fail, "does not answer")
}

func TestAnOlderSchemaIsFound(t *testing.T) {
	t.Parallel()
	e, cfg, _ := deployment(t)
	e.Exec(`DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
	found(t, doctor.Examine(t.Context(), cfg), "migrations", doctor.Fail, "this program needs")
}

// found fails the test if there is no such finding, or if it does not say what
// to do although all is not well.
func found(t *testing.T, findings []doctor.Finding, check string, status doctor.Status, detail string) {
	t.Helper()
	for _, f := range findings {
		if f.Check == check && f.Status == status && strings.Contains(f.Detail, detail) {
			if f.Do == "" {
				t.Errorf("%+v does not say what to do", f)
			}
			return
		}
	}
	t.Errorf("no finding %s %s %q in %+v", check, status, detail, findings)
}
