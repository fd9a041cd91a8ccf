package endpoints

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/sql/db"
)

func (a *API) create(ctx context.Context, user uuid.UUID, in *createInput) (*onceOutput[CreatedEndpoint], error) {
	n, err := a.newEndpoint(in.Body)
	if err != nil {
		return nil, err
	}
	n.UserID = user
	var e Keyed
	out, err := once(ctx, a, user, http.StatusCreated, func(tx pgx.Tx) (shown CreatedEndpoint, err error) {
		e, shown.Secret, err = a.store.create(ctx, db.New(tx), n)
		failpoint.Hit("create written")
		shown.Endpoint = shownEndpoint(e)
		return shown, err
	})
	if err != nil {
		return nil, fmt.Errorf("register endpoint of user %v: %w", user, err)
	}
	if out.fresh() {
		failpoint.Hit("create committed")
		a.log.Info().Stringer("endpoint_id", e.ID).Stringer("user_id", user).Strs("event_types", e.Events).Msg("endpoint created")
	}
	return out, nil
}

// newEndpoint holds a registration to what its schema can't say.
func (a *API) newEndpoint(b NewEndpointBody) (n NewEndpoint, err error) {
	if n.URL, err = a.guard.CheckURL(b.URL); err != nil {
		return n, invalidURL(err)
	}
	if err := checkEvents(b.Events, a.catalog.Subscribable()); err != nil {
		return n, err
	}
	if n.Filter, err = checkFilter(b.Filter); err != nil {
		return n, err
	}
	if err := checkDescription(b.Description); err != nil {
		return n, err
	}
	if b.Secret != "" {
		if _, err := secretKey(b.Secret); err != nil {
			return n, err
		}
	}
	n.RetrySchedule, err = checkSchedule(b.RetrySchedule)
	n.Events, n.Description, n.Secret, n.Asymmetric = b.Events, b.Description, b.Secret, b.Asymmetric
	n.MaxInFlight, n.RateLimit = b.MaxInFlight, b.RateLimit
	return n, err
}

func (a *API) update(ctx context.Context, user uuid.UUID, in *updateInput) (*updateOutput, error) {
	apply, err := a.change(in.Body)
	if err != nil {
		return nil, err
	}
	var asymmetric *bool
	if in.Body.Asymmetric.Sent {
		asymmetric = &in.Body.Asymmetric.Value
	}
	id := uuid.UUID(in.ID)
	u, err := a.store.Update(ctx, user, id, apply, asymmetric)
	if err != nil {
		return nil, err
	}
	a.log.Info().Stringer("endpoint_id", id).Stringer("user_id", user).Bool("active", u.IsActive).Msg("endpoint updated")
	out := &updateOutput{UpdatedEndpoint{Endpoint: shownEndpoint(u.Keyed)}}
	if u.disabledAt != nil {
		out.Body.Missed = &Missed{Since: u.disabledAt.UTC(), Recover: "/api/webhooks/" + id.String() + "/recover"}
	}
	return out, nil
}

// change holds a change to what its schema can't say, and returns what it does to an endpoint.
func (a *API) change(b UpdateBody) (apply func(*db.Endpoint), err error) {
	var steps []func(*db.Endpoint)
	add := func(step func(*db.Endpoint)) { steps = append(steps, step) }
	if err := errors.Join(b.URL.required("url"), b.Events.required("events"), b.IsActive.required("isActive"), b.Asymmetric.required("asymmetric")); err != nil {
		return nil, err
	}
	if b.URL.Sent {
		address, err := a.guard.CheckURL(b.URL.Value)
		if err != nil {
			return nil, invalidURL(err)
		}
		add(func(e *db.Endpoint) { e.Url = address })
	}
	if b.Events.Sent {
		if err := checkEvents(b.Events.Value, a.catalog.Subscribable()); err != nil {
			return nil, err
		}
		add(func(e *db.Endpoint) { e.Events = b.Events.Value })
	}
	if b.Filter.Sent {
		filter, err := checkFilter(b.Filter.Value)
		if err != nil {
			return nil, err
		}
		add(func(e *db.Endpoint) { e.Filter = filter })
	}
	if b.Description.Sent {
		if err := checkDescription(b.Description.Value); err != nil {
			return nil, err
		}
		add(func(e *db.Endpoint) { e.Description = b.Description.Value }) // empty for null
	}
	if b.IsActive.Sent {
		add(func(e *db.Endpoint) { e.IsActive = b.IsActive.Value })
	}
	if b.MaxInFlight.Sent {
		add(func(e *db.Endpoint) { e.MaxInFlight = b.MaxInFlight.pointer() })
	}
	if b.RateLimit.Sent {
		add(func(e *db.Endpoint) { e.RateLimit = b.RateLimit.pointer() })
	}
	if b.RetrySchedule.Sent {
		schedule, err := checkSchedule(b.RetrySchedule.Value)
		if err != nil {
			return nil, err
		}
		add(func(e *db.Endpoint) { e.RetrySchedule = schedule })
	}
	return func(e *db.Endpoint) {
		for _, step := range steps {
			step(e)
		}
	}, nil
}

func (a *API) list(ctx context.Context, user uuid.UUID, in *listInput) (*listOutput, error) {
	rows, err := a.store.List(ctx, user, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &listOutput{Body: make([]Endpoint, len(rows))}
	for i, row := range rows {
		out.Body[i] = shownEndpoint(row)
	}
	return out, nil
}

func (a *API) get(ctx context.Context, user uuid.UUID, in *EndpointPath) (*endpointOutput, error) {
	row, err := a.store.Get(ctx, user, uuid.UUID(in.ID))
	if err != nil {
		return nil, err
	}
	list, err := keyed(ctx, db.New(a.store.DB), row)
	if err != nil {
		return nil, err
	}
	return &endpointOutput{shownEndpoint(list[0])}, nil
}

func (a *API) delete(ctx context.Context, user uuid.UUID, in *EndpointPath) (*emptyOutput, error) {
	id := uuid.UUID(in.ID)
	if err := a.store.Delete(ctx, user, id); err != nil {
		return nil, err
	}
	failpoint.Hit("delete committed")
	a.log.Info().Stringer("endpoint_id", id).Stringer("user_id", user).Msg("endpoint deleted")
	return &emptyOutput{}, nil
}

func (a *API) rotate(ctx context.Context, user uuid.UUID, in *rotateInput) (*rotateOutput, error) {
	overlap, err := parseOverlap(in.Overlap, a.cfg.SecretOverlap)
	if err != nil {
		return nil, err
	}
	id := uuid.UUID(in.ID)
	secret, public, err := a.store.Rotate(ctx, user, id, overlap)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("rotate committed")
	a.log.Info().Stringer("endpoint_id", id).Stringer("user_id", user).Dur("overlap_ms", overlap).Msg("secret rotated")
	message := "The old secret is no longer valid."
	if overlap > 0 {
		message = "The old secret stays valid until " + time.Now().Add(overlap).UTC().Format(time.RFC3339) + "."
	}
	return &rotateOutput{RotatedSecret{ID: id, Secret: secret, PublicKey: publicText(public), Message: message}}, nil
}

// shownEndpoint is an endpoint as its owner sees it.
func shownEndpoint(e Keyed) Endpoint {
	return Endpoint{
		ID: e.ID, URL: e.Url, Events: e.Events, Filter: Filter{e.Filter}, Description: e.Description,
		IsActive: e.IsActive, DisabledReason: e.DisabledReason, DisabledAt: utc(e.DisabledAt),
		MaxInFlight: e.MaxInFlight, RateLimit: e.RateLimit, RetrySchedule: shownSchedule(e.RetrySchedule),
		PublicKey: publicText(e.PublicKey),
		CreatedAt: e.CreatedAt.UTC(), UpdatedAt: e.UpdatedAt.UTC(),
	}
}

func publicText(key ed25519.PublicKey) *string {
	if key == nil {
		return nil
	}
	text := signing.PublicText(key)
	return &text
}
