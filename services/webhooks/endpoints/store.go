package endpoints

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/sqlstate"
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

// A Store keeps endpoints and their secrets in PostgreSQL. Secrets are
// encrypted, with the endpoint's id as associated data, before they go there.
// It is safe for concurrent use, by any number of processes.
type Store struct {
	DB     *pgxpool.Pool
	Keyset *secrets.Keyset
	// MaxPerUser is the most endpoints that one user may have, deleted ones
	// aside; 0 is no limit.
	MaxPerUser int
}

// mostTries is how often a transaction is made that PostgreSQL ended as a deadlock.
const mostTries = 3

// inTx makes a transaction. What is changed here, deliverers change too, in
// another order: endpoint first here, how it fares first there.
func (s Store) inTx(ctx context.Context, run func(pgx.Tx) error) (err error) {
	for range mostTries {
		if err = pgx.BeginFunc(ctx, s.DB, run); !sqlstate.Deadlock(err) {
			return err
		}
	}
	return err
}

// A NewEndpoint is what Create is given. The caller has checked that the URL may
// be called and that the types are types: see egress.Guard and events.ValidateType.
type NewEndpoint struct {
	UserID      uuid.UUID
	URL         string
	Events      []string // at least one
	Filter      []byte   // as checkFilter returns it
	Description string   // at most 256 characters
	Secret      string   // as secretKey takes it; empty makes a fresh one
	Asymmetric  bool     // whether it gets a key pair too

	MaxInFlight   *int32  // 1 to 100
	RateLimit     *int32  // 1 to 1000
	RetrySchedule []int32 // see checkSchedule
}

// A Keyed endpoint is one with what its owner may see of its keys.
type Keyed struct {
	db.Endpoint
	PublicKey ed25519.PublicKey // nil if it has no key pair
}

// Create registers an endpoint, and returns it with its secret in the form to
// give to its owner: n.Secret, or 64 hex characters. It returns ErrTooMany if the
// user has MaxPerUser already, however many call it at once.
func (s Store) Create(ctx context.Context, n NewEndpoint) (endpoint Keyed, secret string, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		endpoint, secret, err = s.create(ctx, db.New(tx), n)
		return err
	})
	if err != nil {
		return Keyed{}, "", err
	}
	return endpoint, secret, nil
}

// create is Create in a transaction of the caller's.
func (s Store) create(ctx context.Context, q *db.Queries, n NewEndpoint) (endpoint Keyed, secret string, err error) {
	wrap := func(err error) (Keyed, string, error) {
		return Keyed{}, "", fmt.Errorf("create endpoint of user %v: %w", n.UserID, err)
	}
	if err := q.LockCreation(ctx, n.UserID); err != nil {
		return wrap(fmt.Errorf("lock: %w", err))
	}
	id, err := uuid.NewV7() // under the lock, so that ids sort as endpoints are made
	if err != nil {
		return wrap(fmt.Errorf("make id: %w", err))
	}
	endpoint.Endpoint, err = q.InsertEndpoint(ctx, db.InsertEndpointParams{
		ID: id, UserID: n.UserID, Url: n.URL, Events: n.Events, Filter: n.Filter, Description: n.Description,
		MaxInFlight: n.MaxInFlight, RateLimit: n.RateLimit, RetrySchedule: n.RetrySchedule,
		MaxEndpoints: int32(s.MaxPerUser),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return wrap(ErrTooMany)
	}
	if err != nil {
		return wrap(fmt.Errorf("insert: %w", err))
	}
	if secret, endpoint.PublicKey, err = s.addSecret(ctx, q, id, n.Secret, n.Asymmetric); err != nil {
		return wrap(err)
	}
	if err := audit(ctx, q, n.UserID, id, "endpoint.created", created(endpoint)); err != nil {
		return wrap(err)
	}
	return endpoint, secret, nil
}

// List returns a user's endpoints, newest first, at most limit.
func (s Store) List(ctx context.Context, userID uuid.UUID, limit int) ([]Keyed, error) {
	q := db.New(s.DB)
	rows, err := q.ListEndpoints(ctx, db.ListEndpointsParams{UserID: userID, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list endpoints of user %v: %w", userID, err)
	}
	list, err := keyed(ctx, q, rows...)
	if err != nil {
		return nil, fmt.Errorf("list endpoints of user %v: %w", userID, err)
	}
	return list, nil
}

// keyed looks up the public keys of endpoints.
func keyed(ctx context.Context, q *db.Queries, rows ...db.Endpoint) ([]Keyed, error) {
	ids := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	keys, err := q.PublicKeys(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read public keys: %w", err)
	}
	byID := make(map[uuid.UUID][]byte, len(keys))
	for _, k := range keys {
		byID[k.EndpointID] = k.PublicKey
	}
	list := make([]Keyed, len(rows))
	for i, row := range rows {
		list[i] = Keyed{row, byID[row.ID]}
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
// returns ErrNotFound. The deliverers end its pending deliveries.
func (s Store) Delete(ctx context.Context, userID, id uuid.UUID) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		if _, err := q.MarkEndpointDeleted(ctx, db.MarkEndpointDeletedParams{ID: id, UserID: userID}); err != nil {
			return orNotFound(err)
		}
		if err := q.DeleteEndpointSecrets(ctx, id); err != nil {
			return fmt.Errorf("delete secrets: %w", err)
		}
		if err := q.MarkEnding(ctx, id); err != nil {
			return fmt.Errorf("end deliveries: %w", err)
		}
		failpoint.Hit("delete written")
		return audit(ctx, q, userID, id, "endpoint.deleted", nil)
	})
	if err != nil {
		return fmt.Errorf("delete endpoint %v: %w", id, err)
	}
	return nil
}

func orNotFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
