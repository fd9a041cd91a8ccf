package apikeys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/sql/db"
)

const (
	minLife = time.Minute               // anything less is a slip of the pen
	maxLife = 10 * 366 * 24 * time.Hour // so is anything more
)

// What [Store.Revoke] returns, wrapped with what it is about.
var (
	// ErrUnknown means that there is no such key.
	ErrUnknown = errors.New("there is no such key")
	// ErrRevoked means that it is revoked already.
	ErrRevoked = errors.New("is revoked already")
	// ErrAmbiguous means that several keys have the name.
	ErrAmbiguous = errors.New("several keys have that name")
)

// A Store is where keys are kept: the table api_keys.
type Store struct{ DB db.DBTX }

// Create makes a key and returns it: nobody can, ever again. life is how long it
// is valid, one minute to ten years; 0 is for ever. Errors name field and rule, or
// are the database's.
func (s Store) Create(ctx context.Context, name string, scopes []Scope, life time.Duration) (text string, k Key, err error) {
	if err := checkName(name); err != nil {
		return "", Key{}, err
	}
	if len(scopes) == 0 {
		return "", Key{}, fmt.Errorf("scope: must be %s, %s, or both", EventsPublish, Operator)
	}
	if life != 0 && (life < minLife || life > maxLife) {
		return "", Key{}, errors.New("expires: must be between 1 minute and 10 years from now")
	}
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		if _, err := ParseScope(string(scope)); err != nil {
			return "", Key{}, err
		}
		names[i] = string(scope)
	}
	slices.Sort(names)
	id, err := uuid.NewV7()
	if err != nil {
		return "", Key{}, fmt.Errorf("make id: %w", err)
	}
	text = newText()
	sum := hash(text)
	p := db.InsertAPIKeyParams{ID: id, Name: name, Hash: sum[:], Scopes: slices.Compact(names)}
	if life != 0 {
		seconds := life.Seconds()
		p.Life = &seconds
	}
	row, err := db.New(s.DB).InsertAPIKey(ctx, p)
	if err != nil {
		return "", Key{}, fmt.Errorf("insert API key: %w", err)
	}
	return text, fromRow(row), nil
}

// List returns all keys, newest first, those too that are revoked or expired.
func (s Store) List(ctx context.Context) ([]Key, error) {
	rows, err := db.New(s.DB).ListAPIKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", err)
	}
	keys := make([]Key, len(rows))
	for i, row := range rows {
		keys[i] = fromRow(row)
	}
	return keys, nil
}

// Revoke ends a key, for good, by its id or its name, and returns it. A name that
// one key has that is not revoked, and others that are, means that one. Verifiers
// notice within [RevokedWithin]. Errors are ErrUnknown, ErrRevoked, ErrAmbiguous,
// or the database's.
func (s Store) Revoke(ctx context.Context, idOrName string) (Key, error) {
	if strings.HasPrefix(idOrName, Prefix) { // never repeat what may be a key
		return Key{}, fmt.Errorf("what begins with %s is a key itself: give its id or name: %w by that name", Prefix, ErrUnknown)
	}
	q := db.New(s.DB)
	key, err := find(ctx, q, idOrName)
	if err != nil {
		return Key{}, err
	}
	n, err := q.RevokeAPIKey(ctx, key.ID)
	if err != nil {
		return Key{}, fmt.Errorf("revoke API key %v: %w", key.ID, err)
	}
	if n == 0 { // somebody was faster
		return Key{}, fmt.Errorf("key %v %w", key.ID, ErrRevoked)
	}
	return key, nil
}

// find returns the one key that is meant and not revoked.
func find(ctx context.Context, q *db.Queries, idOrName string) (Key, error) {
	if id, err := uuid.Parse(idOrName); err == nil {
		row, err := q.APIKeyByID(ctx, id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return Key{}, fmt.Errorf("id %v: %w", id, ErrUnknown)
		case err != nil:
			return Key{}, fmt.Errorf("look up API key %v: %w", id, err)
		case row.RevokedAt != nil:
			return Key{}, fmt.Errorf("key %v %w, since %s", id, ErrRevoked, row.RevokedAt.UTC().Format(time.RFC3339))
		}
		return fromRow(row), nil
	}
	rows, err := q.APIKeysByName(ctx, idOrName)
	if err != nil {
		return Key{}, fmt.Errorf("look up API key %q: %w", idOrName, err)
	}
	live := 0 // they come first
	for live < len(rows) && rows[live].RevokedAt == nil {
		live++
	}
	switch {
	case len(rows) == 0:
		return Key{}, fmt.Errorf("name %q: %w", idOrName, ErrUnknown)
	case live == 0:
		return Key{}, fmt.Errorf("key %q %w, since %s", idOrName, ErrRevoked, rows[0].RevokedAt.UTC().Format(time.RFC3339))
	case live > 1:
		ids := make([]string, live)
		for i := range ids {
			ids[i] = rows[i].ID.String()
		}
		return Key{}, fmt.Errorf("name %q: %w: say which by its id: %s", idOrName, ErrAmbiguous, strings.Join(ids, ", "))
	}
	return fromRow(rows[0]), nil
}
