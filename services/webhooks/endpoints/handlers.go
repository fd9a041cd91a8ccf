package endpoints

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/sql/db"
)

func (a *API) create(ctx context.Context, user uuid.UUID, in *createInput) (*createOutput, error) {
	address, err := a.guard.CheckURL(in.Body.URL)
	if err != nil {
		return nil, invalidURL(err)
	}
	if err := checkEvents(in.Body.Events, a.cfg.EventTypes); err != nil {
		return nil, err
	}
	if err := checkDescription(in.Body.Description); err != nil {
		return nil, err
	}
	endpoint, secret, err := a.store.Create(ctx, NewEndpoint{
		UserID: user, URL: address, Events: in.Body.Events, Description: in.Body.Description,
	})
	if err != nil {
		return nil, err
	}
	afterCommit(ctx, func() {
		a.log.Info().Stringer("endpoint_id", endpoint.ID).Stringer("user_id", user).Strs("event_types", endpoint.Events).Msg("endpoint created")
	})
	return &createOutput{CreatedEndpoint{Endpoint: shown(endpoint), Secret: secret}}, nil
}

func (a *API) list(ctx context.Context, user uuid.UUID, in *listInput) (*listOutput, error) {
	rows, err := a.store.List(ctx, user, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &listOutput{Body: make([]Endpoint, len(rows))}
	for i, row := range rows {
		out.Body[i] = shown(row)
	}
	return out, nil
}

func (a *API) get(ctx context.Context, user uuid.UUID, in *EndpointPath) (*endpointOutput, error) {
	row, err := a.store.Get(ctx, user, uuid.UUID(in.ID))
	if err != nil {
		return nil, err
	}
	return &endpointOutput{shown(row)}, nil
}

func (a *API) delete(ctx context.Context, user uuid.UUID, in *EndpointPath) (*emptyOutput, error) {
	id := uuid.UUID(in.ID)
	if err := a.store.Delete(ctx, user, id); err != nil {
		return nil, err
	}
	a.log.Info().Stringer("endpoint_id", id).Stringer("user_id", user).Msg("endpoint deleted")
	return &emptyOutput{}, nil
}

func (a *API) rotate(ctx context.Context, user uuid.UUID, in *rotateInput) (*rotateOutput, error) {
	overlap, err := parseOverlap(in.Overlap, a.cfg.SecretOverlap)
	if err != nil {
		return nil, err
	}
	id := uuid.UUID(in.ID)
	secret, err := a.store.Rotate(ctx, user, id, overlap)
	if err != nil {
		return nil, err
	}
	a.log.Info().Stringer("endpoint_id", id).Stringer("user_id", user).Dur("overlap_ms", overlap).Msg("secret rotated")
	message := "The old secret is no longer valid."
	if overlap > 0 {
		message = "The old secret stays valid until " + time.Now().Add(overlap).UTC().Format(time.RFC3339) + "."
	}
	return &rotateOutput{RotatedSecret{ID: id, Secret: secret, Message: message}}, nil
}

// shown is an endpoint as its owner sees it.
func shown(e db.Endpoint) Endpoint {
	return Endpoint{
		ID: e.ID, URL: e.Url, Events: e.Events, Description: e.Description,
		IsActive: e.IsActive, DisabledReason: e.DisabledReason,
		CreatedAt: e.CreatedAt.UTC(), UpdatedAt: e.UpdatedAt.UTC(),
	}
}
