package deliver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/outbox"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

// A news is what else is to be written with a batch of results.
type news struct {
	failures map[uuid.UUID]int32  // by endpoint that answered nothing with success
	gone     map[uuid.UUID]result // by endpoint: the 410
	ended    []result             // deliveries that were given up, or delivered after they had been
}

func (n news) none() bool { return len(n.failures)+len(n.gone)+len(n.ended) == 0 }

// failing are the endpoints whose states are written.
func (n news) failing() []uuid.UUID {
	return slices.AppendSeq(slices.Collect(maps.Keys(n.failures)), maps.Keys(n.gone))
}

// newsOf finds what is news in a batch.
func newsOf(batch []result) news {
	n := news{failures: make(map[uuid.UUID]int32), gone: make(map[uuid.UUID]result)}
	for _, r := range batch {
		switch {
		case r.Interrupted() || r.Class == classUnsendable:
		case !r.Success:
			n.failures[r.EndpointID]++
		}
		if r.Gone() {
			n.gone[r.EndpointID] = r
		}
		if (r.reason == reasonExhausted || r.Success && r.exhausted) && !events.Operational(r.EventType) {
			n.ended = append(n.ended, r)
		}
	}
	for _, r := range batch {
		if r.Success {
			delete(n.failures, r.EndpointID)
		}
	}
	return n
}

// tell writes news in the transaction of the results: how long endpoints have
// failed, which are disabled by that or by 410, and the operational events.
func (w *Worker) tell(ctx context.Context, tx pgx.Tx, n news) error {
	q := w.queries.WithTx(tx)
	at := w.now()
	if len(n.failures) > 0 {
		var p db.NoteFailuresParams
		for id, failures := range n.failures {
			p.EndpointIds, p.Failures = append(p.EndpointIds, id), append(p.Failures, failures)
		}
		if err := q.NoteFailures(ctx, p); err != nil {
			return fmt.Errorf("note failures: %w", err)
		}
		if w.cfg.DisableAfter > 0 {
			if err := w.disable(ctx, tx, "failing", p.EndpointIds, at); err != nil {
				return err
			}
		}
	}
	if len(n.gone) > 0 {
		if err := w.disable(ctx, tx, "gone", slices.Collect(maps.Keys(n.gone)), at); err != nil {
			return err
		}
	}
	for _, r := range n.ended {
		eventType := events.AttemptExhausted
		if r.Success {
			eventType = events.AttemptRecovered
		}
		data := attemptData{
			EndpointID: r.EndpointID, DeliveryID: r.DeliveryID, EventID: r.EventID, EventType: r.EventType, Attempts: r.N,
		}
		if r.Code != 0 {
			data.ResponseCode = &r.Code
		}
		if err := write(ctx, tx, r.userID, eventType, r.DeliveryID, r.N, r.at, data); err != nil {
			return err
		}
	}
	return nil
}

func (w *Worker) disable(ctx context.Context, tx pgx.Tx, reason string, ids []uuid.UUID, at time.Time) error {
	disabled, err := w.queries.WithTx(tx).DisableEndpoints(ctx, db.DisableEndpointsParams{
		Ids: ids, Reason: reason, MinFailures: disableFailures, After: w.cfg.DisableAfter.Seconds(),
	})
	if err != nil {
		return fmt.Errorf("disable endpoints: %w", err)
	}
	for _, e := range disabled {
		w.log.Warn().Stringer("endpoint_id", e.EndpointID).Stringer("user_id", e.UserID).Str("reason", reason).Msg("endpoint disabled")
		if err := write(ctx, tx, e.UserID, events.EndpointDisabled, e.EndpointID, 0, at, disabledData{e.EndpointID, reason}); err != nil {
			return err
		}
	}
	return nil
}

// attemptData is the data of message.attempt.exhausted and message.attempt.recovered.
type attemptData struct {
	EndpointID   uuid.UUID `json:"endpointId"`
	DeliveryID   uuid.UUID `json:"deliveryId"`
	EventID      uuid.UUID `json:"eventId"`
	EventType    string    `json:"eventType"`
	Attempts     int       `json:"attempts"`
	ResponseCode *int      `json:"responseCode"` // of the last attempt; null if there was no answer
}

// disabledData is the data of endpoint.disabled.
type disabledData struct {
	EndpointID uuid.UUID `json:"endpointId"`
	Reason     string    `json:"reason"` // gone or failing
}

// write puts an operational event into the outbox. Its id is derived from what
// it tells of and from its time, so that results written twice tell it once.
func write(ctx context.Context, tx pgx.Tx, userID uuid.UUID, eventType string, of uuid.UUID, n int, at time.Time, data any) error {
	e, err := events.NewAt(at, userID, eventType, data)
	if err != nil {
		return fmt.Errorf("make event %s: %w", eventType, err)
	}
	e.ID = delivery.ID(e.ID, uuid.NewSHA1(of, []byte(eventType+" "+strconv.Itoa(n))))
	return outbox.Write(ctx, tx, e)
}
