// Package doctor checks a deployment: what can be seen of broker, PostgreSQL and
// keys from where it runs. It changes nothing.
package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events/streams"
)

// A Status is how a check ended.
type Status string

// The statuses.
const (
	OK   Status = "ok"
	Warn Status = "warn" // it works, but not as it should, or not for long
	Fail Status = "fail" // something is lost, or will be, or does not work
)

// A Finding is one line of the report.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"` // what to do about it, unless all is well
}

// Config is what the deployment should be like: the settings of its services.
type Config struct {
	NATSURL     string
	NATSOptions []nats.Option
	DatabaseURL string
	Keyset      string // empty: not checked, which is a warning

	Streams   streams.Config
	Schedule  []time.Duration
	Retention time.Duration
}

// How far off is too far.
const (
	connectTimeout = 5 * time.Second  // for broker and PostgreSQL to answer
	checkTimeout   = 30 * time.Second // for all checks of one of them
	// warnSkew and failSkew are between the clocks of two machines. Delay lines go
	// by the deliverer's clock and claims by PostgreSQL's, with a second of
	// tolerance; receivers refuse signatures that are 5 min old.
	warnSkew = 500 * time.Millisecond
	failSkew = time.Minute
	// lateDue is for how long the oldest due delivery may wait when all is well.
	lateDue = time.Minute
	// lateOutbox is the same for the outbox.
	lateOutbox = time.Minute
)

// report collects findings.
type report struct{ findings []Finding }

func (r *report) ok(check, format string, args ...any) {
	r.findings = append(r.findings, Finding{Check: check, Status: OK, Detail: fmt.Sprintf(format, args...)})
}

func (r *report) warn(check, do, format string, args ...any) {
	r.findings = append(r.findings, Finding{Check: check, Status: Warn, Detail: fmt.Sprintf(format, args...), Do: do})
}

func (r *report) fail(check, do, format string, args ...any) {
	r.findings = append(r.findings, Finding{Check: check, Status: Fail, Detail: fmt.Sprintf(format, args...), Do: do})
}

// Examine makes all checks, in an order that reads well. What depends on
// something that is away is left out, as that has a finding of its own.
func Examine(ctx context.Context, cfg Config) []Finding {
	r := &report{}
	r.broker(ctx, cfg)
	r.postgres(ctx, cfg)
	r.settings(cfg)
	return r.findings
}

func (r *report) postgres(ctx context.Context, cfg Config) {
	const name = "postgresql"
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	pool, err := pgxpool.New(ctx, cfg.DatabaseURL)
	if err != nil {
		r.fail(name, "Correct DATABASE_URL.", "DATABASE_URL: %v", err)
		return
	}
	defer pool.Close()
	answer, stop := context.WithTimeout(ctx, connectTimeout)
	defer stop()
	if err := pool.Ping(answer); err != nil {
		r.fail(name, "Start it, or correct DATABASE_URL.", "it does not answer: %v", err)
		return
	}
	r.server(ctx, pool)
	if r.schema(ctx, pool) {
		r.partitions(ctx, pool)
		r.waiting(ctx, pool)
		r.keys(ctx, pool, cfg.Keyset)
	}
}

// settings checks those that must fit each other.
func (r *report) settings(cfg Config) {
	const name = "retention"
	var longest time.Duration
	for _, step := range cfg.Schedule {
		longest += step + step/10 // with all its jitter
	}
	const retryAfter = 24 * time.Hour // the longest that a receiver may ask for, once
	switch {
	case cfg.Retention <= longest:
		r.fail(name, "Raise RETENTION or shorten RETRY_SCHEDULE.", "retries take up to %s and RETENTION is %s: deliveries are dropped while they wait", longest, cfg.Retention)
	case cfg.Retention <= longest+retryAfter:
		r.warn(name, "Raise RETENTION.", "retries take up to %s, and 24h more if a receiver asks for it; RETENTION is %s", longest, cfg.Retention)
	case cfg.Streams.EventsMaxAge > cfg.Retention:
		r.warn(name, "Set EVENTS_MAX_AGE to RETENTION at most.", "the stream keeps events for %s, longer than RETENTION, %s: what is fanned out again that late is refused as too old", cfg.Streams.EventsMaxAge, cfg.Retention)
	default:
		r.ok(name, "retries take up to %s; RETENTION is %s", longest, cfg.Retention)
	}
}
