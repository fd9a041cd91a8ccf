package endpoints

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/webjson"
)

// Config is what the step is told.
type Config struct {
	JWTSecret   string `name:"jwt-secret" env:"JWT_SECRET" help:"Key of the HS256 tokens that say who is calling, at least 32 bytes. It or JWKS_URL must be set."`
	JWKSURL     string `name:"jwks-url" env:"JWKS_URL" help:"Where an identity provider publishes the public keys of its tokens (RS256, ES256, EdDSA and their larger kin), as https://login.example/.well-known/jwks.json. Empty takes HS256 only."`
	JWTIssuer   string `name:"jwt-issuer" env:"JWT_ISSUER" help:"Claim iss that a token must have. Empty takes any."`
	JWTAudience string `name:"jwt-audience" env:"JWT_AUDIENCE" help:"Claim aud that a token must have. Empty takes any."`

	EncryptionKeyset string        `env:"ENCRYPTION_KEYSET" help:"Keyset that seals the endpoints' secrets, the same as the deliverer has. Required. Make one with: cardwire keys new"`
	SecretOverlap    time.Duration `env:"SECRET_OVERLAP" default:"24h" help:"How long a secret stays valid after it was rotated, unless the caller says (0s to 168h)."`

	MaxEndpoints   int            `env:"MAX_ENDPOINTS" default:"5" help:"Most endpoints of one user (1 to 1000)."`
	EventTypesFile string         `name:"event-types-file" env:"EVENT_TYPES_FILE" help:"JSON file with the event types that endpoints can ask for: an array of 1 to 200 objects with name, description, schema (of the event's data) and example (a whole body). Empty stands for card.viewed and contact.saved. Types that Cardwire itself publishes are added if it does not define them."`
	AllowCIDRs     []netip.Prefix `name:"allow-cidrs" env:"ALLOW_CIDRS" help:"Networks that endpoints may be in although they are not public, such as 10.1.0.0/16; also by plain http. The same as the deliverer has."`
	MaxBodyBytes   int            `name:"max-body-bytes" env:"MAX_BODY_BYTES" default:"65536" help:"Largest body of a request to the endpoints API (1024 to 1048576 bytes)."`

	// Limits of one user in this process: as many at once, and per minute.
	CreateRate  int `env:"CREATE_RATE" default:"10" help:"Endpoints that one user may register per minute and at once (up to 10000), of each replica; 0 is no limit."`
	TestRate    int `env:"TEST_RATE" default:"10" help:"Test events that one user may send per minute and at once (up to 10000), of each replica; 0 is no limit."`
	ResendRate  int `env:"RESEND_RATE" default:"60" help:"Deliveries that one user may resend per minute and at once (up to 10000), of each replica; 0 is no limit."`
	RecoverRate int `env:"RECOVER_RATE" default:"6" help:"Recoveries and replays that one user may start per minute and at once (up to 10000), of each replica; 0 is no limit."`
}

const (
	// maxOverlap bounds how long two secrets are valid at once: long enough to
	// roll a receiver out, short enough that a leaked secret ends.
	maxOverlap = 7 * 24 * time.Hour
	// maxRate bounds the rates: whoever needs more wants no limit.
	maxRate      = 10_000
	minBodyLimit = 1 << 10 // any less and a valid request does not fit
)

// auth is which tokens are taken.
func (c Config) auth() auth.Config {
	return auth.Config{Secret: c.JWTSecret, JWKSURL: c.JWKSURL, Issuer: c.JWTIssuer, Audience: c.JWTAudience}
}

// check says what is wrong with a setting, but for those that other packages
// check when they take them.
func (c Config) check() error {
	if err := c.auth().Check(); err != nil {
		return err
	}
	switch {
	case c.SecretOverlap < 0 || c.SecretOverlap > maxOverlap:
		return fmt.Errorf("SECRET_OVERLAP: must be 0s to %s, not %s", maxOverlap, c.SecretOverlap)
	case c.MaxEndpoints < 1 || c.MaxEndpoints > 1000:
		return fmt.Errorf("MAX_ENDPOINTS: must be 1 to 1000, not %d", c.MaxEndpoints)
	case c.MaxBodyBytes < minBodyLimit || c.MaxBodyBytes > webjson.MaxBodyBytes:
		return fmt.Errorf("MAX_BODY_BYTES: must be %d to %d, not %d", minBodyLimit, webjson.MaxBodyBytes, c.MaxBodyBytes)
	}
	for _, r := range []struct {
		name string
		rate int
	}{{"CREATE_RATE", c.CreateRate}, {"TEST_RATE", c.TestRate}, {"RESEND_RATE", c.ResendRate}, {"RECOVER_RATE", c.RecoverRate}} {
		if r.rate < 0 || r.rate > maxRate {
			return fmt.Errorf("%s: must be 0 to %d, not %d", r.name, maxRate, r.rate)
		}
	}
	return nil
}
