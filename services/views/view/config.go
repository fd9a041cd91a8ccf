package view

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"time"

	"github.com/cardwire/cardwire/services/internal/auth"
)

// Config is what the step is told.
type Config struct {
	JWTSecret   string `name:"jwt-secret" env:"JWT_SECRET" help:"Key of the HS256 tokens that say who is viewing, the same as for webhooks, at least 32 bytes. It or JWKS_URL must be set."`
	JWKSURL     string `name:"jwks-url" env:"JWKS_URL" help:"Where an identity provider publishes the public keys of its tokens, the same as for webhooks. Empty takes HS256 only."`
	JWTIssuer   string `name:"jwt-issuer" env:"JWT_ISSUER" help:"Claim iss that a token must have. Empty takes any."`
	JWTAudience string `name:"jwt-audience" env:"JWT_AUDIENCE" help:"Claim aud that a token must have. Empty takes any."`

	ViewerHashKey string `env:"VIEWER_HASH_KEY" help:"Key under which viewers' addresses are hashed, at least 32 bytes. Empty derives one from JWT_SECRET, without which it is required: then a new JWT_SECRET makes known viewers look new."`

	PublishTimeout   time.Duration `env:"PUBLISH_TIMEOUT" default:"250ms" help:"How long a page waits for the broker to take its view before the view goes to the outbox (1ms to 5s)."`
	ProfileCacheTTL  time.Duration `name:"profile-cache-ttl" env:"PROFILE_CACHE_TTL" default:"5s" help:"How old a cached profile or card may get: how late an edit shows (0s to 5m; 0s reads the database on each view)."`
	ProfileCacheSize int           `env:"PROFILE_CACHE_SIZE" default:"10000" help:"Most profiles and cards cached, unknown ones included; about 2 KB each (1 to 1000000)."`

	ViewsRate      float64        `env:"VIEWS_RATE" default:"20" help:"Requests per second that one client address may make on average; an IPv6 /64 counts as one address. 0 is no limit."`
	ViewsBurst     int            `env:"VIEWS_BURST" default:"100" help:"Requests that one client address may make at once (at least 1)."`
	TrustedProxies []netip.Prefix `env:"TRUSTED_PROXIES" help:"CIDRs of the proxies in front of us, separated by commas. Their X-Forwarded-For is believed, nobody else's."`
}

// minKeyBytes is the size of the hash that the key is for.
const minKeyBytes = sha256.Size

// auth is which tokens are taken.
func (c Config) auth() auth.Config {
	return auth.Config{Secret: c.JWTSecret, JWKSURL: c.JWKSURL, Issuer: c.JWTIssuer, Audience: c.JWTAudience}
}

func (c Config) check() error {
	if err := c.auth().Check(); err != nil {
		return err
	}
	switch {
	case c.ViewerHashKey == "" && c.JWTSecret == "": // it would be derived from what everybody knows
		return fmt.Errorf("VIEWER_HASH_KEY: must be set if JWT_SECRET is not, and have at least %d bytes", minKeyBytes)
	case c.ViewerHashKey != "" && len(c.ViewerHashKey) < minKeyBytes:
		return fmt.Errorf("VIEWER_HASH_KEY: must be empty or have at least %d bytes, not %d", minKeyBytes, len(c.ViewerHashKey))
	case c.PublishTimeout < time.Millisecond || c.PublishTimeout > 5*time.Second:
		return fmt.Errorf("PUBLISH_TIMEOUT: must be 1ms to 5s, not %s", c.PublishTimeout)
	case c.ProfileCacheTTL < 0 || c.ProfileCacheTTL > 5*time.Minute:
		return fmt.Errorf("PROFILE_CACHE_TTL: must be 0s to 5m, not %s", c.ProfileCacheTTL)
	case c.ProfileCacheSize < 1 || c.ProfileCacheSize > 1_000_000:
		return fmt.Errorf("PROFILE_CACHE_SIZE: must be 1 to 1000000, not %d", c.ProfileCacheSize)
	case !(c.ViewsRate >= 0 && c.ViewsRate <= 1e6): // written so that NaN is refused
		return fmt.Errorf("VIEWS_RATE: must be 0 to 1000000, not %g", c.ViewsRate)
	case c.ViewsBurst < 1:
		return fmt.Errorf("VIEWS_BURST: must be at least 1, not %d", c.ViewsBurst)
	}
	return nil
}

// hashKey is the key of viewer hashes: the one given, or else one derived from
// JWT_SECRET (HKDF-SHA256), which tells nothing about the secret.
func (c Config) hashKey() ([]byte, error) {
	if c.ViewerHashKey != "" {
		return []byte(c.ViewerHashKey), nil
	}
	key, err := hkdf.Key(sha256.New, []byte(c.JWTSecret), nil, "cardwire viewer hash v1", minKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("derive viewer hash key: %w", err)
	}
	return key, nil
}
