package view

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string // what the error begins with; empty: none
	}{
		{"defaults with a secret", func(*Config) {}, ""},
		{"neither a secret nor keys for tokens", func(c *Config) { c.JWTSecret = "" }, "JWT_SECRET or JWKS_URL:"},
		{"keys for tokens by http", func(c *Config) { c.JWKSURL = "http://login.example/jwks" }, "JWKS_URL:"},
		{"keys for tokens, no secret to derive a hash key from", func(c *Config) { c.JWTSecret, c.JWKSURL = "", "https://login.example/jwks" }, "VIEWER_HASH_KEY:"},
		{"keys for tokens and a hash key", func(c *Config) {
			c.JWTSecret, c.JWKSURL, c.ViewerHashKey = "", "https://login.example/jwks", strings.Repeat("k", 32)
		}, ""},
		{"secret of 31 bytes", func(c *Config) { c.JWTSecret = strings.Repeat("s", 31) }, "JWT_SECRET:"},
		{"hash key of 31 bytes", func(c *Config) { c.ViewerHashKey = strings.Repeat("s", 31) }, "VIEWER_HASH_KEY:"},
		{"no publish timeout", func(c *Config) { c.PublishTimeout = 0 }, "PUBLISH_TIMEOUT:"},
		{"publish timeout of a minute", func(c *Config) { c.PublishTimeout = time.Minute }, "PUBLISH_TIMEOUT:"},
		{"no cache time", func(c *Config) { c.ProfileCacheTTL = 0 }, ""},
		{"negative cache time", func(c *Config) { c.ProfileCacheTTL = -1 }, "PROFILE_CACHE_TTL:"},
		{"empty cache", func(c *Config) { c.ProfileCacheSize = 0 }, "PROFILE_CACHE_SIZE:"},
		{"no rate", func(c *Config) { c.ViewsRate = 0 }, ""},
		{"negative rate", func(c *Config) { c.ViewsRate = -1 }, "VIEWS_RATE:"},
		{"rate that is no number", func(c *Config) { c.ViewsRate = math.NaN() }, "VIEWS_RATE:"},
		{"no burst", func(c *Config) { c.ViewsBurst = 0 }, "VIEWS_BURST:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := defaults(t)
			tt.change(&cfg)
			err := cfg.check()
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("check: %v, want %q", err, tt.want)
			}
		})
	}
}

func TestConfigFromFlags(t *testing.T) {
	t.Parallel()
	var cfg Config
	parser, err := kong.New(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"--trusted-proxies=10.0.0.0/8,fd00::/8", "--profile-cache-ttl=1m"}); err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	if diff := cmp.Diff(want, cfg.TrustedProxies, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("TRUSTED_PROXIES (-want +got):\n%s", diff)
	}
	if cfg.ProfileCacheTTL != time.Minute {
		t.Errorf("PROFILE_CACHE_TTL = %s", cfg.ProfileCacheTTL)
	}
	if _, err := parser.Parse([]string{"--trusted-proxies=10.0.0.1"}); err == nil {
		t.Error("an address that is no CIDR was taken")
	}
}

func TestHashKey(t *testing.T) {
	t.Parallel()
	cfg := defaults(t)
	derived, err := cfg.hashKey()
	if err != nil {
		t.Fatal(err)
	}
	if len(derived) != minKeyBytes || strings.Contains(string(derived), cfg.JWTSecret) {
		t.Errorf("derived key of %d bytes", len(derived))
	}
	cfg.ViewerHashKey = strings.Repeat("k", 40)
	if key, err := cfg.hashKey(); err != nil || string(key) != cfg.ViewerHashKey {
		t.Errorf("key %q, %v", key, err)
	}
}

// defaults are the settings of somebody who sets only what is required.
func defaults(t testing.TB) Config {
	t.Helper()
	var cfg Config
	parser, err := kong.New(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(nil); err != nil {
		t.Fatal(err)
	}
	cfg.JWTSecret = strings.Repeat("s", 32)
	return cfg
}
