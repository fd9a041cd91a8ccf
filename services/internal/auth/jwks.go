package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/cardwire/cardwire/services/internal/retry"
)

const (
	// refreshEvery is how old known keys get: how long a key that was taken out
	// of the JWKS still counts. Shorter asks the provider more often for nothing.
	refreshEvery = 5 * time.Minute
	// unknownEvery is how often a token with an unknown kid makes us ask at once:
	// strangers must not make us flood the provider, and a new key, published
	// together with its first token, must not wait long.
	unknownEvery = 30 * time.Second
	// fetchTimeout bounds one fetch, for which requests with unknown keys wait.
	fetchTimeout = 3 * time.Second
)

// jwksMethods are the algorithms that keys of a JWKS are for.
var jwksMethods = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"}

var (
	errUnfit = errors.New("key and algorithm don't fit")
	// errNoKid is the rule of OpenID Connect Core 1.0, section 10.1.
	errNoKid = errors.New("names no key, and there are several")
)

// A jwks holds the public keys that are published at a URL. It is the storage of
// a keyfunc, which picks the key that a token names and holds its alg against
// the key's. It is safe for concurrent use.
type jwks struct {
	jwkset.Storage // what keyfunc does not use
	keyfunc        keyfunc.Keyfunc

	url     string
	client  *http.Client
	log     zerolog.Logger
	unknown *rate.Limiter // of fetches that tokens cause
	turn    chan struct{} // of one place: who holds it fetches

	mu   sync.Mutex
	keys map[string]jwkset.JWK // by kid; nil: never fetched
	err  error                 // of the last fetch
}

func newJWKS(url string, log zerolog.Logger) (*jwks, error) {
	k := &jwks{
		Storage: jwkset.NewMemoryStorage(),
		url:     url, client: newClient(), log: log,
		unknown: rate.NewLimiter(rate.Every(unknownEvery), 1),
		turn:    make(chan struct{}, 1),
	}
	var err error
	if k.keyfunc, err = keyfunc.New(keyfunc.Options{Storage: k}); err != nil {
		return nil, fmt.Errorf("read keys by JWKS: %w", err)
	}
	return k, nil
}

// run fetches the keys, at first and then every refreshEvery, until ctx ends.
func (k *jwks) run(ctx context.Context) {
	for {
		if err := retry.Until(ctx, k.log, "keys of JWKS_URL", k.refresh); err != nil {
			return
		}
		if err := retry.Sleep(ctx, retry.Jitter(refreshEvery)); err != nil {
			return
		}
	}
}

// key returns the public key that must have signed t.
func (k *jwks) key(ctx context.Context, t *jwt.Token) (any, error) {
	if _, ok := t.Header["kid"]; !ok {
		kid, err := k.onlyKid(ctx)
		if err != nil {
			return nil, err
		}
		t.Header["kid"] = kid
	}
	key, err := k.keyfunc.KeyfuncCtx(ctx)(t)
	if err != nil {
		return nil, err
	}
	if !fits(t.Method, key) {
		return nil, errUnfit
	}
	return key, nil
}

// fits says whether a key is of the kind, and on the curve, that method is for.
func fits(method jwt.SigningMethod, key any) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		_, ok := method.(*jwt.SigningMethodRSA)
		return ok
	case *ecdsa.PublicKey:
		m, ok := method.(*jwt.SigningMethodECDSA)
		return ok && m.CurveBits == key.Curve.Params().BitSize
	case ed25519.PublicKey:
		_, ok := method.(*jwt.SigningMethodEd25519)
		return ok
	default:
		return false
	}
}

// onlyKid returns the kid of the only key there is, which may be empty.
func (k *jwks) onlyKid(ctx context.Context) (string, error) {
	only := func(keys map[string]jwkset.JWK) (jwkset.JWK, bool) {
		for _, key := range keys {
			return key, len(keys) == 1
		}
		return jwkset.JWK{}, false
	}
	key, err := k.find(ctx, only)
	if errors.Is(err, jwkset.ErrKeyNotFound) {
		return "", errNoKid
	}
	return key.Marshal().KID, err
}

// KeyRead returns the key named kid, for keyfunc. If there is none and the JWKS may have
// changed, it is fetched. The error is jwkset.ErrKeyNotFound if it holds no such key,
// and ErrUnavailable if that can't be told.
func (k *jwks) KeyRead(ctx context.Context, kid string) (jwkset.JWK, error) {
	return k.find(ctx, func(keys map[string]jwkset.JWK) (jwkset.JWK, bool) {
		key, ok := keys[kid]
		return key, ok
	})
}

func (k *jwks) find(ctx context.Context, pick func(map[string]jwkset.JWK) (jwkset.JWK, bool)) (jwkset.JWK, error) {
	known, _ := k.state()
	if key, ok := pick(known); ok {
		return key, nil
	}
	// Whoever comes while a fetch is under way waits for it, and then looks again.
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return jwkset.JWK{}, ErrUnavailable
	}
	defer func() { <-k.turn }()
	known, err := k.state()
	key, ok := pick(known)
	if !ok && k.unknown.Allow() {
		err = k.fetch(context.WithoutCancel(ctx)) // for all who wait, not for this client alone
		known, _ = k.state()
		key, ok = pick(known)
	}
	switch {
	case ok:
		return key, nil
	case err != nil || known == nil:
		return jwkset.JWK{}, ErrUnavailable
	default:
		return jwkset.JWK{}, jwkset.ErrKeyNotFound
	}
}

// refresh fetches the keys when it is its turn.
func (k *jwks) refresh(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-k.turn }()
	return k.fetch(ctx)
}

// fetch replaces the keys by those of the JWKS; if it can't be had or is
// unusable, they stay. Whoever calls it has the turn.
func (k *jwks) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keys, err := fetchKeys(ctx, k.client, k.url)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err = err; err != nil {
		return fmt.Errorf("fetch JWKS: %w", err)
	}
	if before, now := kids(k.keys), kids(keys); k.keys == nil || !slices.Equal(before, now) {
		k.log.Info().Strs("kids", now).Strs("before", before).Msg("token keys fetched")
	}
	k.keys = keys
	return nil
}

func (k *jwks) state() (map[string]jwkset.JWK, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys, k.err
}
