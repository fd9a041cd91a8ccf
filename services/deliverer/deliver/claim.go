package deliver

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// early is how much too early a retry may be claimed: the delay line goes
	// by its own clock, PostgreSQL decides. What comes earlier is dropped here
	// and brought back by the sweeper.
	early = time.Second
	// maxInterruptions is how many attempts of a delivery may be cut off by us
	// before it is given up: it may be what kills us.
	maxInterruptions = 10
	// queryTimeout bounds one query of a batch.
	queryTimeout = 10 * time.Second
)

// A claimed attempt goes with the message that it came by.
type claimed struct {
	Attempt
	msg jetstream.Msg
}

// claim claims what of msgs may be attempted now. The rest is acked: it is
// delivered, or given up, or not due, or somebody else is at it, and in each
// case PostgreSQL knows. Messages that are no deliveries are Term'ed.
func (w *Worker) claim(ctx context.Context, msgs []jetstream.Msg) ([]claimed, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	byID := make(map[uuid.UUID]jetstream.Msg, len(msgs))
	var ids []uuid.UUID
	for _, m := range msgs {
		d, ok := w.decode(m)
		if !ok {
			continue
		}
		if byID[d.ID] != nil {
			w.sent(m.Ack()) // the same delivery twice in a batch
			continue
		}
		byID[d.ID] = m
		ids = append(ids, d.ID)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	low, high := delivery.Bounds(ids)
	rows, err := w.queries.ClaimDeliveries(ctx, db.ClaimDeliveriesParams{
		Ids: ids, Low: low, High: high,
		Early: early.Seconds(), Lease: w.lease().Seconds(), MaxInterruptions: maxInterruptions,
	})
	if err != nil {
		return nil, fmt.Errorf("claim %d deliveries: %w", len(ids), err)
	}
	work := make([]claimed, 0, len(rows))
	for _, row := range rows {
		c := claimed{msg: byID[row.ID], Attempt: Attempt{
			DeliveryID: row.ID, EventID: row.EventID, EndpointID: row.EndpointID, EventType: row.EventType,
			N: int(row.N), Failures: int(row.Failures), URL: row.Url,
		}}
		c.Secrets, c.Fault = w.open(row.EndpointID, row.Secrets)
		delete(byID, row.ID)
		work = append(work, c)
	}
	for _, m := range byID {
		w.sent(m.Ack())
	}
	return work, nil
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

// open decrypts the secrets of an endpoint. One that does not open must not
// keep the others from signing.
func (w *Worker) open(endpointID uuid.UUID, ciphertexts [][]byte) (secrets []string, fault string) {
	for _, c := range ciphertexts {
		plain, err := w.keyset.Open(endpointID, c)
		if err != nil {
			w.log.Error().Err(err).Stringer("endpoint_id", endpointID).Msg("secret does not open")
			continue
		}
		secrets = append(secrets, string(plain))
	}
	if len(secrets) == 0 {
		return nil, "The endpoint has no secret to sign with."
	}
	return secrets, ""
}

// bodies fills in the bodies of claimed attempts.
func (w *Worker) bodies(ctx context.Context, work []claimed) error {
	if len(work) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	bodies := make(map[uuid.UUID][]byte, len(work))
	var ids []uuid.UUID
	for _, c := range work {
		if _, ok := bodies[c.EventID]; !ok {
			bodies[c.EventID] = nil
			ids = append(ids, c.EventID)
		}
	}
	low, high := delivery.Bounds(ids)
	rows, err := w.queries.EventBodies(ctx, db.EventBodiesParams{Ids: ids, Low: low, High: high})
	if err != nil {
		return fmt.Errorf("read bodies of %d events: %w", len(ids), err)
	}
	for _, row := range rows {
		bodies[row.ID] = row.Body
	}
	for i := range work {
		if work[i].Body = bodies[work[i].EventID]; work[i].Body == nil && work[i].Fault == "" {
			work[i].Fault = "The event is no longer kept."
		}
	}
	return nil
}
