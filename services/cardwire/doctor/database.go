package doctor

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/services/internal/partitions"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/migrations"
)

// oldestPostgreSQL is the oldest that the schema works on, as server_version_num.
const oldestPostgreSQL = 140000

// unreadable is a check whose query failed.
func (r *report) unreadable(check string, err error) {
	r.fail(check, "See what PostgreSQL's log says.", "not readable: %v", err)
}

func (r *report) server(ctx context.Context, pool *pgxpool.Pool) {
	before := time.Now()
	f, err := db.New(pool).ServerFacts(ctx)
	after := time.Now()
	if err != nil {
		r.unreadable("postgresql", err)
		return
	}
	if f.Version < oldestPostgreSQL {
		r.fail("postgresql", "Upgrade to 14 or newer.", "version %d.%d is too old", f.Version/10000, f.Version%10000)
	} else {
		r.ok("postgresql", "version %d.%d answers", f.Version/10000, f.Version%10000)
	}
	const durability = "durability of postgresql"
	switch {
	case f.Fsync != "on" || f.FullPageWrites != "on":
		r.fail(durability, "Set fsync and full_page_writes to on.", "fsync is %s and full_page_writes %s: a crash of the machine can ruin the database", f.Fsync, f.FullPageWrites)
	case f.SynchronousCommit == "off":
		r.fail(durability, "Set synchronous_commit to on, or to local at least.", "synchronous_commit is off: a crash loses what was accepted in the last second")
	default:
		r.ok(durability, "fsync and full_page_writes are on, synchronous_commit is %s", f.SynchronousCommit)
	}
	r.skew("clock of postgresql", f.Now, before, after)
}

// skew compares another machine's clock, read between before and after, with ours.
func (r *report) skew(check string, theirs, before, after time.Time) {
	off := theirs.Sub(before.Add(after.Sub(before) / 2))
	uncertain := after.Sub(before) / 2
	least := max(off.Abs()-uncertain, 0)
	const do = "Have both machines keep time by NTP."
	switch {
	case least >= failSkew:
		r.fail(check, do, "it is %s off ours", off.Round(time.Millisecond))
	case least >= warnSkew:
		r.warn(check, do, "it is %s off ours", off.Round(time.Millisecond))
	default:
		r.ok(check, "within %s of ours", max(off.Abs(), uncertain).Round(time.Millisecond))
	}
}

// schema says whether it is there for the checks that follow.
func (r *report) schema(ctx context.Context, pool *pgxpool.Pool) bool {
	const name = "migrations"
	want, err := migrations.Latest()
	var have int64
	if err == nil {
		have, err = migrations.Version(ctx, pool)
	}
	switch {
	case err != nil:
		r.unreadable(name, err)
	case have < want:
		r.fail(name, "Run cardwire migrate, or start the services with MIGRATE=true.", "the schema is at %d, this program needs %d", have, want)
	case have > want:
		r.warn(name, "Use the doctor of the newer version.", "the schema is at %d, newer than this program, which knows %d", have, want)
	default:
		r.ok(name, "the schema is at %d", have)
	}
	return err == nil && have >= want
}

func (r *report) partitions(ctx context.Context, pool *pgxpool.Pool) {
	const name = "partitions"
	today := time.Now().UTC()
	missing, err := db.New(pool).MissingPartitions(ctx, db.MissingPartitionsParams{FromDay: today, ToDay: today.AddDate(0, 0, partitions.Ahead)})
	switch {
	case err != nil:
		r.unreadable(name, err)
	case len(missing) > 0:
		r.fail(name, "See that a webhooks service runs, and that its role may create tables.", "missing: %s", strings.Join(missing, ", "))
	default:
		r.ok(name, "those of today and the next %d days are there", partitions.Ahead)
	}
}

// countMost bounds each count, as that of the gauges.
const countMost = 50_000

func (r *report) waiting(ctx context.Context, pool *pgxpool.Pool) {
	q := db.New(pool)
	age, err := q.OldestDueDelivery(ctx)
	late := time.Duration(age * float64(time.Second)).Round(time.Millisecond)
	switch {
	case err != nil:
		r.unreadable("deliveries", err)
	case late > lateDue:
		r.warn("deliveries", "See that enough deliverers run, and what they log.", "the oldest that is due has waited for %s", late)
	default:
		r.ok("deliveries", "the oldest that is due has waited for %s", late)
	}
	outbox, err := q.CountOutbox(ctx, countMost)
	late = time.Duration(outbox.Age * float64(time.Second)).Round(time.Millisecond)
	switch {
	case err != nil:
		r.unreadable("outbox", err)
	case late > lateOutbox:
		r.warn("outbox", "See that a views service runs and reaches the broker, and that EVENTS is not full.", "%d events wait, the oldest for %s", outbox.Waiting, late)
	default:
		r.ok("outbox", "%d events wait", outbox.Waiting)
	}
	refused, err := q.CountRefused(ctx)
	switch {
	case err != nil:
		r.unreadable("outbox", err)
	case refused > 0:
		r.warn("outbox", "SELECT id, refused FROM outbox WHERE refused IS NOT NULL tells why. Correct them and set refused to NULL, or delete them.", "%d rows are no events and set aside", refused)
	}
	dead, err := q.CountDeadEvents(ctx, countMost)
	switch {
	case err != nil:
		r.unreadable("dead events", err)
	case dead > 0:
		r.warn("dead events", "SELECT subject, reason FROM dead_events ORDER BY created_at DESC tells who published what. Delete them when done.", "%d messages were no events", dead)
	default:
		r.ok("dead events", "none")
	}
}

// secretsPage is how many secrets are read at once.
const secretsPage = 500

// keys opens every secret with the keyset.
func (r *report) keys(ctx context.Context, pool *pgxpool.Pool, serialized string) {
	const name = "encryption keyset"
	if serialized == "" {
		r.warn(name, "Set ENCRYPTION_KEYSET to that of the services.", "not checked: it is not set here")
		return
	}
	keyset, err := secrets.ParseKeyset(serialized)
	if err != nil {
		r.fail(name, "Set ENCRYPTION_KEYSET to that of the services.", "%v", err)
		return
	}
	opened, broken := 0, 0
	var first error
	for after := uuid.Nil; ; {
		rows, err := db.New(pool).SecretsAfter(ctx, db.SecretsAfterParams{After: after, MaxRows: secretsPage})
		if err != nil {
			r.unreadable(name, err)
			return
		}
		for _, row := range rows {
			_, err := keyset.Open(row.EndpointID, row.Ciphertext)
			if err == nil && len(row.SigningKey) > 0 {
				_, err = keyset.Open(row.EndpointID, row.SigningKey)
			}
			if err != nil {
				broken++
				first = err
			} else {
				opened++
			}
			after = row.ID
		}
		if len(rows) < secretsPage {
			break
		}
	}
	if broken > 0 {
		r.fail(name, "Give the services the keyset that sealed them; cardwire keys says how keys are rotated.", "%d of %d secrets don't open, such as: %v", broken, opened+broken, first)
		return
	}
	r.ok(name, "it opens all %d secrets; key %d seals", opened, keyset.Primary())
}
