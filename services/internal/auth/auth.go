// Package auth says who makes a request: it verifies the JSON Web Tokens that
// DevCard's login hands out (HS256), and mints such tokens for development.
package auth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
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

	// cookieName is where DevCard's web client keeps its token.
	cookieName = "token"
)

// What [Verifier.User] returns besides a user. A route that serves strangers too
// (views) treats all three as anonymous; one that does not answers 401, and 403
// to ErrCrossOrigin.
var (
	// ErrNoToken means that the request carries no token at all.
	ErrNoToken = errors.New("no token")
	// ErrInvalidToken means that it carries one that proves nothing. It is
	// wrapped with the reason, in words of ours only.
	ErrInvalidToken = errors.New("invalid token")
	// ErrCrossOrigin means that the token came in a cookie, the request changes
	// something, and a browser sent it from another site.
	ErrCrossOrigin = errors.New("cross-origin request with a cookie")
)

// A Config says which tokens are taken.
type Config struct {
	Secret   string           // HS256 key, at least MinSecretBytes
	Issuer   string           // required as claim iss; empty takes any
	Audience string           // required among claim aud; empty takes any
	Now      func() time.Time // nil means time.Now
}

// A Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	parser *jwt.Parser
	key    jwt.Keyfunc
}

// New returns a verifier for cfg, or an error if its secret is too short.
func New(cfg Config) (*Verifier, error) {
	if err := checkSecret(cfg.Secret); err != nil {
		return nil, err
	}
	options := []jwt.ParserOption{
		// Named, never taken from the token: "none" and the confusion of RS256 with HS256 end here.
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
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
	secret := []byte(cfg.Secret)
	key := func(t *jwt.Token) (any, error) {
		// An extension that must be understood, and that we don't (RFC 7515, section 4.1.11).
		if _, ok := t.Header["crit"]; ok {
			return nil, errors.New("critical extension")
		}
		return secret, nil
	}
	return &Verifier{parser: jwt.NewParser(options...), key: key}, nil
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
// must be signed by HS256 and carry an expiry; times are taken with a leeway of 60 s.
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
		return v.verify(token)
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil || cookie.Value == "" {
		return uuid.Nil, ErrNoToken
	}
	if new(http.CrossOriginProtection).Check(r) != nil {
		return uuid.Nil, ErrCrossOrigin
	}
	return v.verify(cookie.Value)
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

func (v *Verifier) verify(token string) (uuid.UUID, error) {
	if len(token) > maxTokenBytes {
		return uuid.Nil, fmt.Errorf("%w: more than %d bytes", ErrInvalidToken, maxTokenBytes)
	}
	var c claims
	if _, err := v.parser.ParseWithClaims(token, &c, v.key); err != nil {
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
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
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
