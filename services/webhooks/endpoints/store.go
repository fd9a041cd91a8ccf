package endpoints

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/sql/db"
)

// What a [Store] returns besides endpoints. Any other error is a fault of ours
// or of the database.
var (
	// ErrNotFound means that the user has no such endpoint: it never was, is
	// deleted, or is somebody else's.
	ErrNotFound = errors.New("no such endpoint")
	// ErrTooMany means that the user has as many endpoints as one may have.
	ErrTooMany = errors.New("too many endpoints")
	// ErrManySecrets means that an endpoint has as many rotated secrets that are
	// still valid as it may have.
	ErrManySecrets = errors.New("too many secrets are still valid")
	// errSecret means that the keyset does not seal or open a secret.
	errSecret = errors.New("secret")
)

// keepOldSecrets is how many rotated secrets may be valid beside the current
// one. Each is a signature in every request's headers. To rotate again before
// one of them has ended would break the promise of its overlap, so it is
// refused, unless the caller ends them all.
const keepOldSecrets = 3

// A Store keeps endpoints and their secrets in PostgreSQL. Secrets are
// encrypted, with the endpoint's id as associated data, before they go there.
// It is safe for concurrent use, by any number of processes.
type Store struct {
	DB     Database
	Keyset *secrets.Keyset
	// MaxPerUser is the most endpoints that one user may have, deleted ones
	// aside; 0 is no limit.
	MaxPerUser int
}

// A NewEndpoint is what Create is given. The caller has checked that the URL may
// be called and that the types are types: see egress.Guard and events.ValidateType.
type NewEndpoint struct {
	UserID      uuid.UUID
	URL         string
	Events      []string // at least one
	Description string   // at most 256 characters
}

// Create registers an endpoint with a fresh secret, which it returns in the
// clear: 64 hex characters. It returns ErrTooMany if the user has MaxPerUser
// already, however many call it at once.
func (s Store) Create(ctx context.Context, n NewEndpoint) (endpoint db.Endpoint, secret string, err error) {
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := q.LockCreation(ctx, n.UserID); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		id, err := uuid.NewV7() // under the lock, so that ids sort as endpoints are made
		if err != nil {
			return fmt.Errorf("make id: %w", err)
		}
		endpoint, err = q.InsertEndpoint(ctx, db.InsertEndpointParams{
			ID: id, UserID: n.UserID, Url: n.URL, Events: n.Events, Description: n.Description,
			MaxEndpoints: int32(s.MaxPerUser),
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrTooMany
		}
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		secret, err = s.addSecret(ctx, q, id)
		return err
	})
	if err != nil {
		return db.Endpoint{}, "", fmt.Errorf("create endpoint of user %v: %w", n.UserID, err)
	}
	return endpoint, secret, nil
}

// List returns a user's endpoints, newest first, at most limit.
func (s Store) List(ctx context.Context, userID uuid.UUID, limit int) ([]db.Endpoint, error) {
	list, err := db.New(s.DB).ListEndpoints(ctx, db.ListEndpointsParams{UserID: userID, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list endpoints of user %v: %w", userID, err)
	}
	return list, nil
}

// Get returns one endpoint of a user, or ErrNotFound.
func (s Store) Get(ctx context.Context, userID, id uuid.UUID) (db.Endpoint, error) {
	endpoint, err := db.New(s.DB).Endpoint(ctx, db.EndpointParams{ID: id, UserID: userID})
	if err != nil {
		return db.Endpoint{}, fmt.Errorf("get endpoint %v: %w", id, orNotFound(err))
	}
	return endpoint, nil
}

// Delete marks an endpoint of a user as deleted and deletes its secrets, or
// returns ErrNotFound. Its pending deliveries end at their next claim.
func (s Store) Delete(ctx context.Context, userID, id uuid.UUID) error {
	err := pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		q := db.New(tx)
		if _, err := q.MarkEndpointDeleted(ctx, db.MarkEndpointDeletedParams{ID: id, UserID: userID}); err != nil {
			return orNotFound(err)
		}
		return q.DeleteEndpointSecrets(ctx, id)
	})
	if err != nil {
		return fmt.Errorf("delete endpoint %v: %w", id, err)
	}
	return nil
}

// Rotate gives an endpoint of a user a new secret, which it returns in the
// clear, or returns ErrNotFound. What was valid before ends after overlap, or
// at once if that is 0. It returns ErrManySecrets if that would leave more old
// secrets valid than may be.
func (s Store) Rotate(ctx context.Context, userID, id uuid.UUID, overlap time.Duration) (secret string, err error) {
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		q := db.New(tx)
		if _, err := q.TouchEndpoint(ctx, db.TouchEndpointParams{ID: id, UserID: userID}); err != nil {
			return orNotFound(err)
		}
		if err := q.ExpireEndpointSecrets(ctx, db.ExpireEndpointSecretsParams{EndpointID: id, Overlap: overlap.Seconds()}); err != nil {
			return fmt.Errorf("expire old secrets: %w", err)
		}
		active, err := q.ActiveEndpointSecrets(ctx, id)
		if err != nil {
			return fmt.Errorf("read secrets: %w", err)
		}
		if overlap > 0 && len(active) > keepOldSecrets {
			return ErrManySecrets
		}
		if secret, err = s.addSecret(ctx, q, id); err != nil {
			return err
		}
		return q.PruneEndpointSecrets(ctx, db.PruneEndpointSecretsParams{EndpointID: id, Keep: keepOldSecrets})
	})
	if err != nil {
		return "", fmt.Errorf("rotate secret of endpoint %v: %w", id, err)
	}
	return secret, nil
}

// Secrets returns the secrets in the clear that deliveries to an endpoint are
// signed with now, the current one first. It does not ask whose endpoint it is:
// no answer of the API contains them.
func (s Store) Secrets(ctx context.Context, id uuid.UUID) ([]string, error) {
	rows, err := db.New(s.DB).ActiveEndpointSecrets(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read secrets of endpoint %v: %w", id, err)
	}
	list := make([]string, len(rows))
	for i, row := range rows {
		plain, err := s.Keyset.Open(id, row.Ciphertext)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errSecret, err)
		}
		list[i] = string(plain)
	}
	return list, nil
}

func (s Store) addSecret(ctx context.Context, q *db.Queries, endpointID uuid.UUID) (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	secret := signing.NewSecret()
	sealed, err := s.Keyset.Seal(endpointID, []byte(secret))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errSecret, err)
	}
	if err := q.InsertEndpointSecret(ctx, db.InsertEndpointSecretParams{ID: id, EndpointID: endpointID, Ciphertext: sealed}); err != nil {
		return "", fmt.Errorf("insert secret: %w", err)
	}
	return secret, nil
}

func orNotFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
