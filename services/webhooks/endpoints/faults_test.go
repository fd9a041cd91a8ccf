package endpoints

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/replays"
	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	postgres := pgtest.NewServer(t)
	if err := migrations.Up(t.Context(), postgres.URL(), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s := serverOn(t, pool)
	e := s.create(t, alice)
	if err := postgres.StopNow(); err != nil {
		t.Fatal(err)
	}
	away := 0
	for operation, row := range tenancy {
		if row.memo {
			continue
		}
		away++
		method, path, _ := strings.Cut(operation, " ")
		ids := strings.NewReplacer("{id}", e.ID.String(), "{deliveryId}", uuid.NewString(), "{recoveryId}", uuid.NewString(), "{replayId}", uuid.NewString())
		a := s.call(t, alice, method, ids.Replace(path), filled(row.body, ids))
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "2" {
			t.Errorf("%s: %d, Retry-After %q", operation, a.status, a.header.Get("Retry-After"))
			continue
		}
		checkProblem(t, a)
		if got := a.sentence(t); got != "the database does not answer: try again in 2 s" {
			t.Errorf("%s says %q", operation, got)
		}
	}
	if n := strings.Count(s.logs.String(), `"message":"request failed"`); n != away {
		t.Errorf("%d faults logged, want %d: %s", n, away, s.logs)
	}
	if err := postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := decode[[]Endpoint](t, s.call(t, alice, "GET", "/api/webhooks", nil))
	if len(list) != 1 || list[0].ID != e.ID {
		t.Errorf("afterwards there are %v; want what was there before, and no more", list)
	}
}

func TestErrorTable(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return &pgconn.PgError{Code: code, Message: "inner secret"} }
	tests := []struct {
		name   string
		err    error
		status int
		fault  bool
	}{
		{"invalid input", invalid("url", "must use https"), 400, false},
		{"not found", ErrNotFound, 404, false},
		{"no such delivery", errNoDelivery, 404, false},
		{"no such recovery", errNoRecovery, 404, false},
		{"no such replay", replays.ErrNotFound, 404, false},
		{"a replay to no endpoint of the caller's", replays.ErrNoEndpoint, 404, false},
		{"a replay to a disabled endpoint", replays.ErrInactive, 409, false},
		{"a replay that breaks a rule", &replays.InvalidError{Field: "since", Rule: "is required"}, 400, false},
		{"a replay beside another", &replays.OverlapError{}, 409, false},
		{"a replay that has ended", &replays.StateError{State: replays.Finished, Wanted: replays.Paused}, 409, false},
		{"a conflict", errInFlight, 409, false},
		{"a key used for something else", errKeyUsed, 409, false},
		{"too often", &rateError{time.Second}, 429, false},
		{"too many", ErrTooMany, 409, false},
		{"a secret that does not open", fmt.Errorf("%w: inner secret", errSecret), 500, true},
		{"constraint", pg("23514"), 500, true},
		{"syntax", pg("42601"), 500, true},
		{"bad data", pg("22021"), 500, true},
		{"deadlock", pg("40P01"), 503, true},
		{"stopping", pg("57P01"), 503, true},
		{"read-only", pg("25006"), 503, true},
		{"too many connections", pg("53300"), 503, true},
		{"timeout", context.DeadlineExceeded, 503, true},
		{"anything else", errors.New("inner secret"), 503, true},
	}
	a := &API{cfg: Config{MaxEndpoints: 5}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, fault := a.problemOf(fmt.Errorf("create endpoint: %w", tt.err))
			if p.Status != tt.status || fault != tt.fault || strings.Contains(p.Message+p.Detail, "inner") {
				t.Errorf("got %d, fault %t: %s", p.Status, fault, p.Message)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		change  func(*Config)
		wantErr string
	}{
		{"good ones", func(*Config) {}, ""},
		{"neither a secret nor keys for tokens", func(c *Config) { c.JWTSecret = "" }, "JWT_SECRET or JWKS_URL: at least one of them must be set"},
		{"keys for tokens and no secret", func(c *Config) { c.JWTSecret, c.JWKSURL = "", "https://login.example/jwks" }, ""},
		{"keys for tokens by http", func(c *Config) { c.JWKSURL = "http://login.example/jwks" }, "JWKS_URL: must use https"},
		{"short secret", func(c *Config) { c.JWTSecret = strings.Repeat("x", 31) }, "JWT_SECRET: must have at least 32 bytes, not 31"},
		{"no keyset", func(c *Config) { c.EncryptionKeyset = "" }, "ENCRYPTION_KEYSET: keyset: empty"},
		{"a passphrase as keyset", func(c *Config) { c.EncryptionKeyset = "swordfish!" }, "ENCRYPTION_KEYSET: keyset: neither JSON nor base64"},
		{"no endpoints", func(c *Config) { c.MaxEndpoints = 0 }, "MAX_ENDPOINTS"},
		{"too many endpoints", func(c *Config) { c.MaxEndpoints = 1001 }, "MAX_ENDPOINTS"},
		{"negative overlap", func(c *Config) { c.SecretOverlap = -1 }, "SECRET_OVERLAP"},
		{"overlap too long", func(c *Config) { c.SecretOverlap = 169 * time.Hour }, "SECRET_OVERLAP: must be 0s to 168h0m0s, not 169h0m0s"},
		{"small bodies", func(c *Config) { c.MaxBodyBytes = 1023 }, "MAX_BODY_BYTES"},
		{"large bodies", func(c *Config) { c.MaxBodyBytes = 2 << 20 }, "MAX_BODY_BYTES"},
		{"no file of event types", func(c *Config) { c.EventTypesFile = "none.json" }, "EVENT_TYPES_FILE: open none.json"},
		{"a negative rate", func(c *Config) { c.CreateRate = -1 }, "CREATE_RATE: must be 0 to 10000, not -1"},
		{"a rate beyond any", func(c *Config) { c.RecoverRate = 10_001 }, "RECOVER_RATE: must be 0 to 10000, not 10001"},
		{"IPv4 in IPv6 as network", func(c *Config) { c.AllowCIDRs = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")} }, "ALLOW_CIDRS"},
	}
	pool := pgtest.New(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := settings(t)
			tt.change(&cfg)
			api, err := New(cfg, process.Deps{Mux: http.NewServeMux(), NATS: awayBroker(t), DB: pool})
			switch {
			case tt.wantErr == "" && err == nil:
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := api.Run(ctx); err != nil {
					t.Errorf("run: %v", err)
				}
			case tt.wantErr == "" || err == nil || !strings.HasPrefix(err.Error(), tt.wantErr):
				t.Errorf("got %v, want %q", err, tt.wantErr)
			}
		})
	}
}
