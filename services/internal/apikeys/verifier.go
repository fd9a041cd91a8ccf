package apikeys

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/sql/db"
)

const (
	// RevokedWithin is how long a key goes on working after it was revoked: so
	// long a Verifier believes what it has read. Longer spares the database less
	// than it costs in trust; shorter reads it for each request of a busy publisher.
	// An expiry counts at once.
	RevokedWithin = 5 * time.Second
	// touchEvery is how old last_used_at may get while the key is in use. With
	// RevokedWithin, in which uses are not noted, it is right to within a minute.
	touchEvery = 45 * time.Second
	// maxCached bounds the memory for keys in use, some 300 bytes each.
	maxCached = 4096
	// queryTimeout bounds looking a key up: the request waits for it.
	queryTimeout = 2 * time.Second
)

// What [Verifier.Key] returns besides a key.
var (
	// ErrNoKey means that the request carries no API key. It may carry another
	// bearer token, as users do. To be answered by 401.
	ErrNoKey = errors.New("no API key")
	// ErrInvalidKey means that the key is unknown, revoked or expired: which, is
	// not for strangers. To be answered by 401.
	ErrInvalidKey = errors.New("invalid API key")
	// ErrScope means that the key is valid, but not for this. To be answered by 403.
	ErrScope = errors.New("the API key lacks the scope")
	// ErrUnavailable means that the database did not tell. To be answered by 503.
	ErrUnavailable = errors.New("API keys can't be checked")
)

// A Verifier says which API key a request carries. It is safe for concurrent use.
type Verifier struct {
	db    *db.Queries
	log   zerolog.Logger
	now   func() time.Time
	cache *lru.Cache[[sha256.Size]byte, cached]
}

type cached struct {
	key  Key
	read time.Time
}

// NewVerifier returns a verifier of the keys in a database. now is the clock; nil
// means time.Now.
func NewVerifier(conn db.DBTX, log zerolog.Logger, now func() time.Time) (*Verifier, error) {
	cache, err := lru.New[[sha256.Size]byte, cached](maxCached)
	if err != nil {
		return nil, fmt.Errorf("make a cache of API keys: %w", err)
	}
	if now == nil {
		now = time.Now
	}
	return &Verifier{db: db.New(conn), log: log, now: now, cache: cache}, nil
}

// Key returns the valid key that a request carries as "Authorization: Bearer cwk_…",
// if it has the scope, or one of the errors above. A key that was revoked
// works for RevokedWithin at most. Using a key sets its last_used_at, now and then.
func (v *Verifier) Key(r *http.Request, scope Scope) (Key, error) {
	text, ok := bearer(r)
	if !ok {
		return Key{}, ErrNoKey
	}
	if !looksLikeKey(text) {
		return Key{}, ErrInvalidKey
	}
	key, err := v.lookUp(r.Context(), hash(text))
	switch {
	case err != nil:
		return Key{}, err
	case key.State(v.now()) != "valid":
		return Key{}, ErrInvalidKey
	case !key.Allows(scope):
		return Key{}, fmt.Errorf("%w %s", ErrScope, scope)
	}
	return key, nil
}

// bearer returns the API key that a request carries. Two Authorization headers are none.
func bearer(r *http.Request) (text string, ok bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	text = strings.TrimSpace(text)
	return text, strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(text, Prefix)
}

// lookUp returns the key of a hash, in whatever state; ErrInvalidKey if there is
// none. Only keys that were valid are remembered: a flood of invented ones
// costs a look at an index each, and no memory.
func (v *Verifier) lookUp(ctx context.Context, sum [sha256.Size]byte) (Key, error) {
	now := v.now()
	if c, ok := v.cache.Get(sum); ok && now.Sub(c.read) < RevokedWithin {
		return c.key, nil
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	row, err := v.db.APIKeyByHash(ctx, sum[:])
	if errors.Is(err, pgx.ErrNoRows) {
		return Key{}, ErrInvalidKey
	}
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if subtle.ConstantTimeCompare(row.Hash, sum[:]) != 1 {
		return Key{}, ErrInvalidKey
	}
	key := fromRow(row)
	if key.State(now) != "valid" {
		v.cache.Remove(sum)
		return key, nil
	}
	if key.LastUsed == nil || now.Sub(*key.LastUsed) >= touchEvery {
		err := v.db.TouchAPIKey(ctx, db.TouchAPIKeyParams{ID: key.ID, AtMostEvery: touchEvery.Seconds()})
		if err != nil { // the key is as good as before
			v.log.Warn().Err(err).Stringer("key_id", key.ID).Msg("use of API key not noted")
		}
	}
	v.cache.Add(sum, cached{key: key, read: now})
	return key, nil
}
