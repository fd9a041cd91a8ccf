package endpoints

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/signing"
)

// patch changes an endpoint of alice's.
func (s *server) patch(t testing.TB, id uuid.UUID, body string) UpdatedEndpoint {
	t.Helper()
	a := s.call(t, alice, "PATCH", "/api/webhooks/"+id.String(), body)
	if a.status != http.StatusOK {
		t.Fatalf("%s: %d %s", body, a.status, a.body)
	}
	return decode[UpdatedEndpoint](t, a)
}

func TestUpdates(t *testing.T) {
	t.Parallel()
	ten := int32(10)
	tests := []struct {
		name, body string
		want       func(*Endpoint)
		changes    string // of the audit record; empty: there is none
	}{
		{
			"the URL", `{"url":"https://Example.org:443/b?token=s3cret"}`, func(e *Endpoint) { e.URL = "https://example.org/b?token=s3cret" },
			`{"url":{"from":"https://example.com/a","to":"https://example.org/b"}}`,
		},
		{
			"the URL's query alone, which the log does not tell", `{"url":"https://example.com/a?key=other"}`, func(e *Endpoint) { e.URL = "https://example.com/a?key=other" },
			`{"url":{"from":"https://example.com/a","to":"https://example.com/a"}}`,
		},
		{
			"the events", `{"events":["contact.saved","endpoint.disabled"]}`, func(e *Endpoint) { e.Events = []string{"contact.saved", "endpoint.disabled"} },
			`{"events":{"from":["card.viewed"],"to":["contact.saved","endpoint.disabled"]}}`,
		},
		{
			"patterns of events", `{"events":["card.*","*"]}`, func(e *Endpoint) { e.Events = []string{"card.*", "*"} },
			`{"events":{"from":["card.viewed"],"to":["card.*","*"]}}`,
		},
		{
			"a filter", `{"filter":{ "source": ["qr", "nfc"] }}`, func(e *Endpoint) { e.Filter = Filter{json.RawMessage(`{"source":["qr","nfc"]}`)} },
			`{"filter":{"from":{"source":"link"},"to":{"source":["qr","nfc"]}}}`,
		},
		{"no filter", `{"filter":null}`, func(e *Endpoint) { e.Filter = Filter{json.RawMessage("null")} }, `{"filter":{"from":{"source":"link"},"to":null}}`},
		{"the description", `{"description":"new"}`, func(e *Endpoint) { e.Description = "new" }, `{"description":{"from":"old","to":"new"}}`},
		{"no description", `{"description":null}`, func(e *Endpoint) { e.Description = "" }, `{"description":{"from":"old","to":""}}`},
		{"attempts at once", `{"maxInFlight":10}`, func(e *Endpoint) { e.MaxInFlight = &ten }, `{"maxInFlight":{"from":5,"to":10}}`},
		{"attempts at once as usual", `{"maxInFlight":null}`, func(e *Endpoint) { e.MaxInFlight = nil }, `{"maxInFlight":{"from":5,"to":null}}`},
		{"the rate", `{"rateLimit":10}`, func(e *Endpoint) { e.RateLimit = &ten }, `{"rateLimit":{"from":7,"to":10}}`},
		{"no rate", `{"rateLimit":null}`, func(e *Endpoint) { e.RateLimit = nil }, `{"rateLimit":{"from":7,"to":null}}`},
		{
			"the retries", `{"retrySchedule":["1500ms","90m","24h"]}`, func(e *Endpoint) { e.RetrySchedule = []string{"1.5s", "1h30m", "24h"} },
			`{"retrySchedule":{"from":["30s"],"to":["1.5s","1h30m","24h"]}}`,
		},
		{"no retries", `{"retrySchedule":[]}`, func(e *Endpoint) { e.RetrySchedule = []string{} }, `{"retrySchedule":{"from":["30s"],"to":[]}}`},
		{"retries as usual", `{"retrySchedule":null}`, func(e *Endpoint) { e.RetrySchedule = nil }, `{"retrySchedule":{"from":["30s"],"to":null}}`},
		{
			"two at once", `{"description":"","rateLimit":null}`, func(e *Endpoint) { e.Description, e.RateLimit = "", nil },
			`{"description":{"from":"old","to":""},"rateLimit":{"from":7,"to":null}}`,
		},
		{"all as it was", `{"url":"https://example.com:443/a?token=t0p","events":["card.viewed"],"filter":{"source": "link"},"description":"old","isActive":true,"asymmetric":false,` +
			`"maxInFlight":5,"rateLimit":7,"retrySchedule":["30000ms"]}`, func(*Endpoint) {}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			a := s.call(t, alice, "POST", "/api/webhooks", `{"url":"https://example.com/a?token=t0p","events":["card.viewed"],"filter":{"source":"link"},"description":"old",`+
				`"maxInFlight":5,"rateLimit":7,"retrySchedule":["30s"]}`)
			before := decode[CreatedEndpoint](t, a).Endpoint
			got := s.patch(t, before.ID, tt.body)
			want := before
			tt.want(&want)
			if (tt.changes == "") != got.UpdatedAt.Equal(before.UpdatedAt) || got.UpdatedAt.Before(before.UpdatedAt) {
				t.Errorf("updated %v, was %v", got.UpdatedAt, before.UpdatedAt)
			}
			want.UpdatedAt = got.UpdatedAt
			if diff := cmp.Diff(want, got.Endpoint); diff != "" || got.Missed != nil {
				t.Errorf("missed %v, endpoint (-want +got):\n%s", got.Missed, diff)
			}
			read := decode[Endpoint](t, s.call(t, alice, "GET", "/api/webhooks/"+before.ID.String(), nil))
			if diff := cmp.Diff(want, read); diff != "" {
				t.Errorf("read again (-want +got):\n%s", diff)
			}
			records := decode[AuditPage](t, s.call(t, alice, "GET", "/api/audit-log", nil)).Data
			if tt.changes == "" {
				if len(records) != 1 {
					t.Errorf("recorded %v", records)
				}
				return
			}
			if details := string(records[0].Details.RawMessage); records[0].Action != "endpoint.updated" || !sameJSON(t, details, `{"changes":`+tt.changes+`}`) {
				t.Errorf("recorded %s %s", records[0].Action, details)
			}
		})
	}
}

func sameJSON(t testing.TB, a, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	return cmp.Equal(x, y)
}

func TestDisablingAndEnabling(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.create(t, alice)
	off := s.patch(t, e.ID, `{"isActive":false}`)
	if off.IsActive || off.DisabledReason == nil || *off.DisabledReason != "owner" || off.DisabledAt == nil || off.Missed != nil {
		t.Fatalf("disabled: %+v", off)
	}
	if !one[bool](t, s, "SELECT ending FROM endpoint_states WHERE endpoint_id = $1", e.ID) {
		t.Error("what is pending is not ended")
	}
	if again := s.patch(t, e.ID, `{"isActive":false}`); !again.DisabledAt.Equal(*off.DisabledAt) || !again.UpdatedAt.Equal(off.UpdatedAt) {
		t.Error("disabling it again changed it")
	}
	s.exec(t, `UPDATE endpoint_states SET circuit = 'open', circuit_reason = 'paused', circuit_until = now() + interval '1 h', failing_since = now(),
		failures = 3, waits_for = 'paused', wait_until = now() + interval '1 h'`)

	on := s.patch(t, e.ID, `{"isActive":true}`)
	want := &Missed{Since: *off.DisabledAt, Recover: "/api/webhooks/" + e.ID.String() + "/recover"}
	if diff := cmp.Diff(want, on.Missed); diff != "" || !on.IsActive || on.DisabledReason != nil || on.DisabledAt != nil {
		t.Errorf("enabled: %+v, missed (-want +got):\n%s", on.Endpoint, diff)
	}
	healthy := `SELECT circuit = 'closed' AND circuit_reason IS NULL AND circuit_until IS NULL AND failing_since IS NULL AND failures = 0
		AND waits_for = 'paused' AND wait_until <= now() FROM endpoint_states`
	if !one[bool](t, s, healthy) || one[bool](t, s, "SELECT ending FROM endpoint_states") {
		t.Error("its health is not forgotten, or what is pending is ended still")
	}
	if again := s.patch(t, e.ID, `{"isActive":true}`); again.Missed != nil {
		t.Error("enabling an active endpoint tells of something missed")
	}
	s.deliver(t, e.ID, 1) // makes partitions: something is kept
	if a := s.call(t, alice, "POST", on.Missed.Recover, map[string]any{"since": on.Missed.Since, "missing": true}); a.status != http.StatusAccepted {
		t.Errorf("recover as told: %d %s", a.status, a.body)
	}

	// Another URL begins anew, and does not stop what is being ended.
	s.exec(t, `UPDATE endpoint_states SET circuit = 'open', failing_since = now(), failures = 3, ending = true`)
	s.patch(t, e.ID, `{"description":"x"}`)
	if one[bool](t, s, healthy) {
		t.Error("another description forgot its health")
	}
	s.patch(t, e.ID, `{"url":"https://example.com/other"}`)
	if !one[bool](t, s, healthy) || !one[bool](t, s, "SELECT ending FROM endpoint_states") {
		t.Error("another URL did not forget its health, or did more")
	}
	if a := s.call(t, alice, "DELETE", "/api/webhooks/"+e.ID.String(), nil); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	if !one[bool](t, s, "SELECT ending FROM endpoint_states") {
		t.Error("deleted, and what is pending is not ended")
	}
}

// TestEnablingWhatTheDelivererDisabled: gone or failing, the owner says when it is well.
func TestEnablingWhatTheDelivererDisabled(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"gone", "failing"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			e := s.create(t, alice)
			s.exec(t, "UPDATE endpoints SET is_active = false, disabled_reason = $1, disabled_at = '2026-08-01T00:00:00Z'", reason)
			if still := s.patch(t, e.ID, `{"isActive":false,"description":"x"}`); still.DisabledReason == nil || *still.DisabledReason != reason {
				t.Errorf("disabled by its owner as well: %v", still.DisabledReason)
			}
			on := s.patch(t, e.ID, `{"isActive":true}`)
			if on.Missed == nil || !on.Missed.Since.Equal(time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)) {
				t.Errorf("missed: %v", on.Missed)
			}
		})
	}
}

func TestKeyPairs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.call(t, alice, "POST", "/api/webhooks", `{"url":"https://example.com/","events":["card.viewed"],"asymmetric":true}`)
	e := decode[CreatedEndpoint](t, a)
	path := "/api/webhooks/" + e.ID.String()
	// The seed that is stored is the one of the key that is shown.
	check := func(shown *string) {
		t.Helper()
		if shown == nil {
			t.Fatal("no public key")
		}
		seed, err := s.store.Keyset.Open(e.ID, one[[]byte](t, s, "SELECT signing_key FROM endpoint_secrets WHERE expires_at IS NULL"))
		if err != nil || len(seed) != ed25519.SeedSize {
			t.Fatalf("seed of %d bytes: %v", len(seed), err)
		}
		public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		if *shown != signing.PublicText(public) || !bytes.Equal(public, one[[]byte](t, s, "SELECT public_key FROM endpoint_secrets WHERE expires_at IS NULL")) {
			t.Errorf("shown is %s, stored is another", *shown)
		}
		for _, a := range []answer{s.call(t, alice, "GET", path, nil), s.call(t, alice, "GET", "/api/webhooks", nil)} {
			if !strings.Contains(a.body, `"publicKey":"`+*shown+`"`) {
				t.Errorf("not shown in %s", a.body)
			}
		}
		if strings.Contains(s.logs.String(), base64.StdEncoding.EncodeToString(seed)) {
			t.Error("the seed is in the log")
		}
	}
	check(e.PublicKey)
	first := *e.PublicKey

	rotated := decode[RotatedSecret](t, s.call(t, alice, "PATCH", path+"/rotate-secret", nil))
	check(rotated.PublicKey)
	if *rotated.PublicKey == first || one[int](t, s, "SELECT count(*) FROM endpoint_secrets WHERE public_key IS NOT NULL") != 2 {
		t.Error("rotated, but the key is the old one, or the old one is gone")
	}
	if same := s.patch(t, e.ID, `{"asymmetric":true}`); *same.PublicKey != *rotated.PublicKey {
		t.Error("asking for a pair again made another one")
	}
	if none := s.patch(t, e.ID, `{"asymmetric":false}`); none.PublicKey != nil || one[int](t, s, "SELECT count(*) FROM endpoint_secrets WHERE signing_key IS NOT NULL") != 0 {
		t.Error("dropped, but there still")
	}
	if rotated := decode[RotatedSecret](t, s.call(t, alice, "PATCH", path+"/rotate-secret", nil)); rotated.PublicKey != nil {
		t.Error("a rotation made a pair for an endpoint that has none")
	}
	check(s.patch(t, e.ID, `{"asymmetric":true}`).PublicKey)
}

func TestSecretsOfTheCallers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.MaxPerUser = 0
	whsec := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfe}, n)) }
	for _, tt := range []struct {
		name, secret string
		bytes        int // of the key; 0: refused
	}{
		{"24 bytes", whsec(24), 24},
		{"25 bytes, with padding", whsec(25), 25},
		{"64 bytes", whsec(64), 64},
		{"23 bytes", whsec(23) + "    ", 0},
		{"65 bytes", whsec(65), 0},
		{"no prefix", strings.TrimPrefix(whsec(32), "whsec_"), 0},
		{"another prefix", "whsk_" + strings.TrimPrefix(whsec(32), "whsec_"), 0},
		{"prefix in capitals", "WHSEC_" + strings.TrimPrefix(whsec(32), "whsec_"), 0},
		{"hex", strings.Repeat("0f", 32), 0},
		{"without its padding", strings.TrimRight(whsec(25), "="), 0},
		{"the alphabet of URLs", "whsec_" + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xfe}, 33)), 0},
		{"with a line end", whsec(24)[:20] + `\n` + whsec(24)[20:], 0},
		{"with bits that nothing means", "whsec_" + strings.Repeat("A", 32) + "AB==", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := s.call(t, alice, "POST", "/api/webhooks", body("secret", `"`+tt.secret+`"`))
			if tt.bytes == 0 {
				if a.status != http.StatusBadRequest || !strings.HasPrefix(a.sentence(t), "secret: must ") || strings.Contains(a.body, "/v7+") {
					t.Errorf("%d %s", a.status, a.body)
				}
				return
			}
			e := decode[CreatedEndpoint](t, a)
			keys, err := s.Store().Secrets(t.Context(), e.ID)
			if e.Secret != tt.secret || err != nil || len(keys) != 1 || keys[0] != strings.Repeat("\xfe", tt.bytes) {
				t.Errorf("answered %s; %d keys, %v", e.Secret, len(keys), err)
			}
		})
	}
	if strings.Contains(s.logs.String(), "whsec_") {
		t.Error("a secret is in the log")
	}
}
