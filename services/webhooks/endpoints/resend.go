package endpoints

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/outbox"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

// publishTimeout bounds handing a delivery to the deliverers. A broker that
// takes longer has lost it for now, and the sweeper finds it.
const publishTimeout = time.Second

// resend makes a delivery due at once. Committed, it will be attempted, whether
// or not the broker can be told.
func (a *API) resend(ctx context.Context, user uuid.UUID, in *resendInput) (*onceOutput[Delivery], error) {
	endpointID, id := uuid.UUID(in.ID), uuid.UUID(in.DeliveryID)
	var resent Delivery
	out, err := once(ctx, a, user, http.StatusAccepted, func(tx pgx.Tx) (_ Delivery, err error) {
		resent, err = renew(ctx, db.New(tx), user, endpointID, id)
		return resent, err
	})
	if err != nil {
		return nil, fmt.Errorf("resend delivery %v: %w", id, err)
	}
	if !out.fresh() {
		return out, nil
	}
	published := a.publish(ctx, delivery.Delivery{ID: id, EventID: resent.EventID, EndpointID: endpointID, Probe: true}.AgainMsg())
	a.log.Info().Stringer("delivery_id", id).Stringer("endpoint_id", endpointID).Stringer("user_id", user).
		Bool("published", published).Msg("delivery resent")
	return out, nil
}

// renew makes a delivery pending again and due, and returns it as it is then.
func renew(ctx context.Context, q *db.Queries, user, endpointID, id uuid.UUID) (none Delivery, err error) {
	if err := holdActive(ctx, q, user, endpointID); err != nil {
		return none, err
	}
	if err := q.HoldBodies(ctx); err != nil {
		return none, fmt.Errorf("hold bodies: %w", err)
	}
	d, err := q.LockDelivery(ctx, db.LockDeliveryParams{ID: id, EndpointID: endpointID})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return none, errNoDelivery
	case err != nil:
		return none, fmt.Errorf("lock: %w", err)
	case d.LeasedUntil != nil:
		return none, errInFlight
	case !d.HasEvent:
		return none, errEventGone
	}
	if _, err := q.RenewDeliveries(ctx, db.RenewDeliveriesParams{
		Ids: []uuid.UUID{id}, Low: id, High: id, Trigger: delivery.TriggerResend,
	}); err != nil {
		return none, fmt.Errorf("renew: %w", err)
	}
	if err := audit(ctx, q, user, endpointID, "delivery.resent", map[string]any{"deliveryId": id}); err != nil {
		return none, err
	}
	return readDelivery(ctx, q, endpointID, id)
}

// publish tells the broker, and says whether it could.
func (a *API) publish(ctx context.Context, m *nats.Msg) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	errs, ok := streams.PublishAll(ctx, a.js, []*nats.Msg{m})
	if !ok {
		a.log.Warn().Err(errs[0]).Str("subject", m.Subject).Msg("delivery not published: the sweeper will find it")
	}
	return ok
}

// test sends an event that is for one endpoint alone.
func (a *API) test(ctx context.Context, user uuid.UUID, in *testInput) (*onceOutput[TestSent], error) {
	endpointID := uuid.UUID(in.ID)
	e, err := events.New(user, events.Test, map[string]any{
		"endpointId": endpointID, "message": "This is a test of your endpoint. Nothing has happened.",
	})
	if err != nil {
		return nil, fmt.Errorf("make test event: %w", err)
	}
	deliveryID := delivery.ID(e.ID, endpointID)
	out, err := once(ctx, a, user, http.StatusAccepted, func(tx pgx.Tx) (sent TestSent, err error) {
		q := db.New(tx)
		if err := holdActive(ctx, q, user, endpointID); err != nil {
			return sent, err
		}
		if err := outbox.Write(ctx, tx, e); err != nil {
			return sent, err
		}
		sent = TestSent{EventID: e.ID, DeliveryID: deliveryID}
		return sent, audit(ctx, q, user, endpointID, "endpoint.tested", map[string]any{"eventId": e.ID, "deliveryId": deliveryID})
	})
	if err != nil {
		return nil, fmt.Errorf("test endpoint %v: %w", endpointID, err)
	}
	if !out.fresh() {
		return out, nil
	}
	a.relay.Nudge()
	a.log.Info().Stringer("event_id", e.ID).Stringer("endpoint_id", endpointID).Stringer("user_id", user).Msg("endpoint tested")
	return out, nil
}

// holdActive keeps an endpoint of a user from changing until the transaction
// ends. It returns ErrNotFound or, of one that is disabled, errInactive.
func holdActive(ctx context.Context, q *db.Queries, user, id uuid.UUID) error {
	e, err := q.HoldEndpoint(ctx, db.HoldEndpointParams{ID: id, UserID: user})
	switch {
	case err != nil:
		return orNotFound(err)
	case !e.IsActive:
		return errInactive
	}
	return nil
}
