package deliver_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/secrets"
)

func TestWrongSettingsAreNamed(t *testing.T) {
	t.Parallel()
	keyset, err := secrets.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*deliver.Config)
		want   string // empty: right
	}{
		{"as they should be", func(*deliver.Config) {}, ""},
		{"no keyset", func(c *deliver.Config) { c.EncryptionKeyset = "" }, "ENCRYPTION_KEYSET: "},
		{"timeout too short", func(c *deliver.Config) { c.AttemptTimeout = time.Millisecond }, "ATTEMPT_TIMEOUT: must be 100ms to 30s"},
		{"timeout too long", func(c *deliver.Config) { c.AttemptTimeout = time.Minute }, "ATTEMPT_TIMEOUT: must be 100ms to 30s"},
		{"timeout longer than stopping may take", func(c *deliver.Config) { c.AttemptTimeout = 26 * time.Second }, "ATTEMPT_TIMEOUT: must be 5s shorter than SHUTDOWN_TIMEOUT"},
		{"no concurrency of an endpoint", func(c *deliver.Config) { c.PerEndpoint = 0 }, "ENDPOINT_CONCURRENCY: must be 1 to 100"},
		{"disabling after a negative time", func(c *deliver.Config) { c.DisableAfter = -1 }, "DISABLE_AFTER: must not be negative"},
		{"no concurrency", func(c *deliver.Config) { c.Concurrency = 0 }, "DELIVER_CONCURRENCY: must be 1 to 10000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := deliver.Config{EncryptionKeyset: keyset, AttemptTimeout: 25 * time.Second, Concurrency: 1, PerEndpoint: 1}
			tt.change(&cfg)
			_, err := deliver.New(cfg, process.Deps{Shutdown: 30 * time.Second})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
