// Package auth says who makes a request: it verifies the JSON Web Tokens that
// DevCard's login hands out (HS256), and those of an identity provider that
// publishes its keys at a URL (a JWKS), and mints tokens for development.
package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

const (
	// MinSecretBytes is the shortest secret taken: 32 bytes, the size of the
	// hash (RFC 7518, section 3.2). A shorter one can be guessed offline from any token.
	MinSecretBytes = 32

	// maxTokenBytes bounds a token before anything of it is decoded. Ours have
	// some 200 bytes; a token of an identity provider with many claims has a few thousand.
	maxTokenBytes = 8 << 10

	// leeway is how far the clocks of whoever mints and ours may differ. Longer
	// keeps expired tokens alive, shorter refuses fresh ones.
	leeway = 60 * time.Second

	// RetryAfter is what a client is told, in seconds, after ErrUnavailable. The
	// keys are asked for again within 5 s; asking sooner than that costs nothing.
	RetryAfter = "5"

	// cookieName is where DevCard's web client keeps its token.
	cookieName = "token"
)

// What [Verifier.User] returns besides a user. A route that serves strangers too
// (views) treats all four as anonymous; one that does not answers 401, 403 to
// ErrCrossOrigin, and 503 to ErrUnavailable.
var (
	// ErrNoToken means that the request carries no token at all.
	ErrNoToken = errors.New("no token")
	// ErrInvalidToken means that it carries one that proves nothing. It is
	// wrapped with the reason, in words of ours only.
	ErrInvalidToken = errors.New("invalid token")
	// ErrCrossOrigin means that the token came in a cookie, the request changes
	// something, and a browser sent it from another site.
	ErrCrossOrigin = errors.New("cross-origin request with a cookie")
	// ErrUnavailable means that nothing can be said about the token for now: the
	// key that it names is not known, and the JWKS can't be had. The same request
	// can be made again after RetryAfter.
	ErrUnavailable = errors.New("the keys that sign tokens can't be fetched")
)

// A Config says which tokens are taken: those that Secret signs, and those that a
// key of the JWKS at JWKSURL signs. At least one of the two must be set.
type Config struct {
	Secret   string           // HS256 key, at least MinSecretBytes; empty takes no HS256
	JWKSURL  string           // https, or http on loopback; empty takes HS256 only
	Issuer   string           // required as claim iss; empty takes any
	Audience string           // required among claim aud; empty takes any
	Log      zerolog.Logger   // says when the JWKS is away and when its keys change
	Now      func() time.Time // nil means time.Now
}

// Check says what is wrong with the settings. Errors name the environment
// variable that each comes from, and quote neither.
func (c Config) Check() error {
	switch {
	case c.Secret == "" && c.JWKSURL == "":
		return errors.New("JWT_SECRET or JWKS_URL: at least one of them must be set: the key that signs tokens, or where its public half is published")
	case c.Secret != "" && len(c.Secret) < MinSecretBytes:
		return fmt.Errorf("JWT_SECRET: must have at least %d bytes, not %d", MinSecretBytes, len(c.Secret))
	case c.JWKSURL != "":
		if err := checkURL(c.JWKSURL); err != nil {
			return fmt.Errorf("JWKS_URL: %w", err)
		}
	}
	return nil
}

// A Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	parser *jwt.Parser
	secret []byte // nil: no HS256
	jwks   *jwks  // nil: nothing but HS256
}

// New returns a verifier for cfg, or what [Config.Check] says. It touches no
// network: the JWKS is fetched by Run, or by the first token that needs it.
func New(cfg Config) (*Verifier, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	v := &Verifier{}
	// Named, never taken from the token: "none" and what we have no key for end
	// here. The rest of the confusion of HS256 with RS256 ends in key.
	var methods []string
	if cfg.Secret != "" {
		v.secret = []byte(cfg.Secret)
		methods = append(methods, jwt.SigningMethodHS256.Alg())
	}
	if cfg.JWKSURL != "" {
		var err error
		if v.jwks, err = newJWKS(cfg.JWKSURL, cfg.Log); err != nil {
			return nil, err
		}
		methods = append(methods, jwksMethods...)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(methods),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
		jwt.WithStrictDecoding(),
	}
	if cfg.Issuer != "" {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	if cfg.Now != nil {
		options = append(options, jwt.WithTimeFunc(cfg.Now))
	}
	v.parser = jwt.NewParser(options...)
	return v, nil
}

// Run keeps the keys of the JWKS fresh until ctx ends; while it is away, it is
// asked again every 5 s at least, and the keys that are known stay. Without a
// JWKS it returns at once. One Run at a time.
func (v *Verifier) Run(ctx context.Context) {
	if v.jwks != nil {
		v.jwks.run(ctx)
	}
}

// key returns the key that must have signed t: the secret for HS256 and nothing
// else, a public key that fits the algorithm for all others. A token names its
// key by kid at most: jku, jwk, x5u and x5c are not looked at.
func (v *Verifier) key(ctx context.Context, t *jwt.Token) (any, error) {
	// An extension that must be understood, and that we don't (RFC 7515, section 4.1.11).
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("critical extension")
	}
	switch {
	case t.Method == jwt.SigningMethodHS256 && v.secret != nil:
		return v.secret, nil
	case v.jwks != nil:
		return v.jwks.key(ctx, t)
	default:
		return nil, errUnfit
	}
}

func checkSecret(secret string) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("JWT secret: has %d bytes, needs at least %d", len(secret), MinSecretBytes)
	}
	return nil
}

// User returns the id of the user who makes the request, or one of the errors
// above. The token comes from "Authorization: Bearer", or else from the cookie
// "token"; a bearer token counts even if it is invalid and the cookie is not. It
// must be signed by one of the configured keys and carry an expiry; times are taken with a leeway of 60 s.
// The user's id is a UUID in claim "id" (DevCard's), or in "sub" if there is no "id".
//
// A browser adds cookies to requests that any site makes, so with one, a request
// that can change something (all methods but GET, HEAD and OPTIONS) must come from
// the same origin, as [http.CrossOriginProtection] sees it. A proxy in front of us
// must pass the Host header on unchanged.
func (v *Verifier) User(r *http.Request) (uuid.UUID, error) {
	if token, ok, err := bearer(r); err != nil {
		return uuid.Nil, err
	} else if ok {
		return v.verify(r.Context(), token)
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil || cookie.Value == "" {
		return uuid.Nil, ErrNoToken
	}
	if new(http.CrossOriginProtection).Check(r) != nil {
		return uuid.Nil, ErrCrossOrigin
	}
	return v.verify(r.Context(), cookie.Value)
}

// bearer returns the token of the Authorization header; ok is false if there is no
// such header, or one of another scheme.
func bearer(r *http.Request) (token string, ok bool, err error) {
	values := r.Header.Values("Authorization")
	if len(values) > 1 {
		return "", false, fmt.Errorf("%w: more than one Authorization header", ErrInvalidToken)
	}
	if len(values) == 0 {
		return "", false, nil
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false, nil
	}
	return strings.TrimSpace(token), true, nil
}

// claims are what is read of a token, beyond what the library checks.
type claims struct {
	jwt.RegisteredClaims
	UserID *string `json:"id,omitempty"`
}

func (v *Verifier) verify(ctx context.Context, token string) (uuid.UUID, error) {
	if len(token) > maxTokenBytes {
		return uuid.Nil, fmt.Errorf("%w: more than %d bytes", ErrInvalidToken, maxTokenBytes)
	}
	var c claims
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) { return v.key(ctx, t) })
	if errors.Is(err, ErrUnavailable) {
		return uuid.Nil, ErrUnavailable
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("%w: %s", ErrInvalidToken, reason(err))
	}
	id := c.Subject
	if c.UserID != nil {
		id = *c.UserID
	}
	// uuid.Parse also takes braces, urn:uuid: and 32 digits: one user, one spelling.
	user, err := uuid.Parse(id)
	if err != nil || len(id) != 36 || user == uuid.Nil {
		return uuid.Nil, fmt.Errorf("%w: neither id nor sub is the UUID of a user", ErrInvalidToken)
	}
	return user, nil
}

// reason says in fixed words why the library refused a token; its own errors
// quote what a stranger wrote.
func reason(err error) string {
	switch {
	case errors.Is(err, jwkset.ErrKeyNotFound):
		return "unknown key"
	case errors.Is(err, errNoKid):
		return errNoKid.Error()
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, errUnfit):
		return "signature or algorithm"
	case errors.Is(err, jwt.ErrTokenExpired):
		return "expired"
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return "not valid yet"
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return "issuer"
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return "audience"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "a required claim is missing"
	default:
		return "malformed"
	}
}
