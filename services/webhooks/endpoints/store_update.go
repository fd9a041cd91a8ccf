package endpoints

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/sql/db"
)

// An update is what becomes of an endpoint.
type update struct {
	Keyed
	disabledAt *time.Time // if it was enabled by this: since when it had been disabled
}

// Update changes an endpoint of a user, or returns ErrNotFound. apply changes what
// its owner may change, but for disabled_reason and disabled_at, which follow
// from is_active; asymmetric, unless nil, says whether it has a key pair. To
// what is no change, nothing happens.
//
// Disabling ends what is pending. Enabling and another URL forget how the
// endpoint fared.
func (s Store) Update(ctx context.Context, userID, id uuid.UUID, apply func(*db.Endpoint), asymmetric *bool) (u update, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		row, err := q.LockEndpoint(ctx, db.LockEndpointParams{ID: id, UserID: userID})
		if err != nil {
			return orNotFound(err)
		}
		list, err := keyed(ctx, q, row)
		if err != nil {
			return err
		}
		before := list[0]
		u.Keyed = before
		apply(&u.Endpoint)
		pair := before.PublicKey != nil
		if asymmetric != nil {
			pair = *asymmetric
		}
		changes := changed(before, u.Endpoint, pair)
		toggled := before.IsActive != u.IsActive
		if len(changes) == 0 && !toggled {
			return nil
		}
		if err := s.write(ctx, q, &u, pair); err != nil {
			return err
		}
		if len(changes) > 0 {
			if err := audit(ctx, q, userID, id, "endpoint.updated", map[string]any{"changes": changes}); err != nil {
				return err
			}
		}
		enabled := toggled && u.IsActive
		if enabled || before.Url != u.Url {
			if err := q.ResetEndpointState(ctx, db.ResetEndpointStateParams{EndpointID: id, Enabled: enabled}); err != nil {
				return fmt.Errorf("reset health: %w", err)
			}
		}
		switch {
		case enabled:
			u.disabledAt = before.DisabledAt
			return audit(ctx, q, userID, id, "endpoint.enabled", map[string]any{"disabledAt": utc(before.DisabledAt), "reason": before.DisabledReason})
		case toggled:
			if err := q.MarkEnding(ctx, id); err != nil {
				return fmt.Errorf("end deliveries: %w", err)
			}
			return audit(ctx, q, userID, id, "endpoint.disabled", map[string]any{"reason": "owner"})
		}
		return nil
	})
	if err != nil {
		return update{}, fmt.Errorf("update endpoint %v: %w", id, err)
	}
	return u, nil
}

// write writes an endpoint, and makes or drops its key pair.
func (s Store) write(ctx context.Context, q *db.Queries, u *update, pair bool) (err error) {
	u.Endpoint, err = q.UpdateEndpoint(ctx, db.UpdateEndpointParams{
		ID: u.ID, Url: u.Url, Events: u.Events, Filter: u.Filter, Description: u.Description, IsActive: u.IsActive,
		MaxInFlight: u.MaxInFlight, RateLimit: u.RateLimit, RetrySchedule: u.RetrySchedule,
	})
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	switch {
	case pair && u.PublicKey == nil:
		p := db.AddSigningKeyParams{EndpointID: u.ID}
		if p.SigningKey, u.PublicKey, err = s.newKeyPair(u.ID); err != nil {
			return err
		}
		p.PublicKey = u.PublicKey
		if n, err := q.AddSigningKey(ctx, p); err != nil || n != 1 {
			return fmt.Errorf("add key pair to %d secrets: %w", n, err)
		}
	case !pair && u.PublicKey != nil:
		u.PublicKey = nil
		if err := q.DropSigningKeys(ctx, u.ID); err != nil {
			return fmt.Errorf("drop key pairs: %w", err)
		}
	}
	return nil
}

// audited is what the audit log says of an endpoint, by the names of the API.
func audited(e db.Endpoint, pair bool) map[string]any {
	return map[string]any{
		"url": bareURL(e.Url), "events": e.Events, "filter": json.RawMessage(e.Filter), "description": e.Description, "asymmetric": pair,
		"maxInFlight": e.MaxInFlight, "rateLimit": e.RateLimit, "retrySchedule": shownSchedule(e.RetrySchedule),
	}
}

// created is the details of endpoint.created.
func created(e Keyed) map[string]any { return audited(e.Endpoint, e.PublicKey != nil) }

// changed lists what of an endpoint changes, by the names of the API, with the
// old and the new values. That it is enabled or disabled has an action of its own.
func changed(before Keyed, after db.Endpoint, pair bool) map[string]any {
	b := before.Endpoint
	old, now := audited(b, before.PublicKey != nil), audited(after, pair)
	list := make(map[string]any)
	for name, is := range map[string]bool{
		"url": b.Url != after.Url, "events": !slices.Equal(b.Events, after.Events), "description": b.Description != after.Description,
		"filter":      !bytes.Equal(b.Filter, after.Filter),
		"asymmetric":  (before.PublicKey != nil) != pair,
		"maxInFlight": !samePointer(b.MaxInFlight, after.MaxInFlight), "rateLimit": !samePointer(b.RateLimit, after.RateLimit),
		"retrySchedule": (b.RetrySchedule == nil) != (after.RetrySchedule == nil) || !slices.Equal(b.RetrySchedule, after.RetrySchedule),
	} {
		if is {
			list[name] = map[string]any{"from": old[name], "to": now[name]}
		}
	}
	return list
}

func samePointer[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
