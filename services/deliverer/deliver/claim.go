package deliver

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/services/internal/consume"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// early is how much too early a retry of a delay line may be claimed: the line goes
	// by its own clock, PostgreSQL decides. What comes earlier is dropped here
	// and brought back by the sweeper.
	early = time.Second
	// maxInterruptions is how many attempts of a delivery may be cut off by us
	// before it is given up: it may be what kills us.
	maxInterruptions = 10
	// queryTimeout bounds one query of a batch.
	queryTimeout = 10 * time.Second
)

// An item is a delivery on its way through the deliverer: held, then claimed,
// then attempted. Its message is acked or parked at the end.
type item struct {
	delivery delivery.Delivery
	msg      jetstream.Msg // nil if it was parked: nobody waits for an ack
	claim    claim         // the last one, whose outcome may be unknown

	// What follows is there once it is claimed.
	Attempt
	userID    uuid.UUID // whose endpoint it goes to
	schedule  Schedule  // the endpoint's
	exhausted bool      // it was given up before, and is made again
}

// A claim is one statement's.
type claim struct {
	id    uuid.UUID
	begun time.Time // its leases are younger
}

func (w *Worker) newClaim() claim { return claim{uuid.New(), w.now()} }

// ack acks the item's message, if it has one.
func (w *Worker) ack(it *item) {
	if it.msg != nil {
		w.sent(it.msg.Ack())
	}
}

// leave leaves the item's message, if it has one, to its ack wait.
func (it *item) leave() {
	if it.msg != nil {
		consume.Leave(it.msg)
	}
}

// claim claims what of items may be attempted now, and returns that. The rest
// is acked: it is delivered, or given up, or not due, or somebody else is at it,
// and in each case PostgreSQL knows.
func (w *Worker) claim(ctx context.Context, items map[uuid.UUID]*item) (work []*item, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if work, err, ok := w.claimSkipped(ctx, items); ok {
		return work, err
	}
	c := w.newClaim()
	for _, it := range items {
		it.claim = c
	}
	p := w.claimParams(slices.Collect(maps.Keys(items)), c)
	rows, err := w.queries.ClaimDeliveries(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("claim %d deliveries: %w", len(items), err)
	}
	for _, row := range rows {
		work = append(work, items[row.ID])
	}
	w.claimed(work, rows)
	return work, nil
}

func (w *Worker) claimParams(ids []uuid.UUID, c claim) db.ClaimDeliveriesParams {
	low, high := delivery.Bounds(ids)
	return db.ClaimDeliveriesParams{
		Ids: ids, Low: low, High: high, ClaimID: c.id,
		Early: early.Seconds(), Lease: sabotagedLease(w.lease()).Seconds(), MaxInterruptions: maxInterruptions,
	}
}

// claimed fills in what a claim tells of each of work.
func (w *Worker) claimed(work []*item, rows []db.ClaimDeliveriesRow) {
	now := w.now()
	bodies := make(map[uuid.UUID][]byte, len(rows))
	for i, row := range rows {
		it := work[i]
		it.Attempt = Attempt{
			DeliveryID: row.ID, EventID: row.EventID, EndpointID: row.EndpointID, EventType: row.EventType,
			N: int(row.N), Failures: int(row.Failures), URL: row.Url, ReplayID: row.ReplayID,
		}
		it.userID, it.schedule, it.exhausted = row.UserID, w.schedule(row.RetrySchedule), row.Exhausted
		w.open(&it.Attempt, row.Secrets, row.SigningKeys)
		w.gate.Configure(now, row.EndpointID, int(row.MaxInFlight), int(row.RateLimit))
		if row.Body != nil {
			bodies[row.EventID] = row.Body
		}
	}
	for _, it := range work {
		if it.Body = bodies[it.EventID]; it.Body == nil && it.Fault == "" {
			it.Fault = "The event is no longer kept."
		}
	}
}

// schedule is an endpoint's own, in milliseconds, or else that of the settings.
func (w *Worker) schedule(own []int32) Schedule {
	if own == nil {
		return w.cfg.Schedule
	}
	s := make(Schedule, len(own))
	for i, ms := range own {
		s[i] = time.Duration(ms) * time.Millisecond
	}
	return s
}

// decode reads a message of either lane or of a line. What is no delivery is
// Term'ed: nothing that we publish is.
func (w *Worker) decode(m jetstream.Msg) (d delivery.Delivery, ok bool) {
	d, err := delivery.Decode(m.Data())
	if err != nil {
		w.log.Error().Err(err).Msg("message is no delivery")
		w.sent(m.TermWithReason("no delivery"))
	}
	return d, err == nil
}

// open decrypts the secrets of an attempt's endpoint and the keys that come with
// some of them. What does not open must not keep the others from signing.
func (w *Worker) open(a *Attempt, ciphertexts, seeds [][]byte) {
	for i, c := range ciphertexts {
		plain, err := w.keyset.Open(a.EndpointID, c)
		if err != nil {
			w.log.Error().Err(err).Stringer("endpoint_id", a.EndpointID).Msg("secret does not open")
			continue
		}
		a.Secrets = append(a.Secrets, string(plain))
		if len(seeds[i]) == 0 {
			continue
		}
		seed, err := w.keyset.Open(a.EndpointID, seeds[i])
		if err == nil {
			var key ed25519.PrivateKey
			if key, err = signing.KeyPair(seed); err == nil {
				a.Keys = append(a.Keys, key)
			}
		}
		if err != nil {
			w.log.Error().Err(err).Stringer("endpoint_id", a.EndpointID).Msg("signing key does not open")
		}
	}
	if len(a.Secrets) == 0 {
		a.Fault = "The endpoint has no secret to sign with."
	}
}
