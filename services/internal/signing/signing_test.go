package signing

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"
)

// A vector is a known answer, made by somebody else's implementation.
type vector struct {
	Name             string   `json:"name"`
	Source           string   `json:"source"`
	ID               string   `json:"id"`
	Timestamp        int64    `json:"timestamp"`
	Body             []byte   `json:"body_base64"`
	Secrets          [][]byte `json:"secrets_base64"` // newest first
	Seeds            [][]byte `json:"seeds_base64"`   // of the keys, newest first
	PublicKeys       []string `json:"public_keys"`    // the same in their text form
	WebhookSignature string   `json:"webhook_signature"`
	DevCardSignature string   `json:"x_devcard_signature"`
}

func readVectors(t *testing.T) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	return vectors
}

func TestHeadersKnownAnswers(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			var secrets []string
			for _, s := range v.Secrets {
				secrets = append(secrets, string(s))
			}
			var keys []ed25519.PrivateKey
			for i, seed := range v.Seeds {
				key, err := KeyPair(seed)
				if err != nil {
					t.Fatal(err)
				}
				if got := PublicKey(key); got != v.PublicKeys[i] {
					t.Errorf("public key %s, want %s", got, v.PublicKeys[i])
				}
				keys = append(keys, key)
			}
			at := time.Unix(v.Timestamp, 999_999_999)
			got, err := Headers(v.ID, at, v.Body, secrets, keys...)
			if err != nil {
				t.Fatal(err)
			}
			want := http.Header{}
			want.Set("webhook-id", v.ID)
			want.Set("webhook-timestamp", strconv.FormatInt(v.Timestamp, 10))
			want.Set("webhook-signature", v.WebhookSignature)
			want.Set("X-DevCard-Signature", v.DevCardSignature)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			if err := Verify(got, v.Body, secrets, at, Tolerance); err != nil {
				t.Error(err)
			}
			for _, text := range v.PublicKeys {
				if err := VerifyPublic(got, v.Body, publicKeys(t, text), at, Tolerance); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestHeadersWithoutSecretIsAnError(t *testing.T) {
	t.Parallel()
	if h, err := Headers("id", time.Unix(1, 0), nil, nil); err == nil {
		t.Errorf("signed by nobody: %v", h)
	}
}

func TestHeadersBelongToTheCaller(t *testing.T) {
	t.Parallel()
	h, err := Headers("id", time.Unix(1, 0), nil, []string{NewSecret()})
	if err != nil {
		t.Fatal(err)
	}
	before := h.Clone()
	h.Add(HeaderID, "second")
	h.Set("Content-Type", "application/json")
	for _, name := range []string{HeaderTimestamp, HeaderSignature, HeaderDevCard} {
		if diff := cmp.Diff(before[name], h[name]); diff != "" {
			t.Errorf("adding to one header changed %s:\n%s", name, diff)
		}
	}
}

func TestNewSecret(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{64}$`)
	seen := map[string]bool{}
	for range 100 {
		s := NewSecret()
		if !form.MatchString(s) || seen[s] {
			t.Fatalf("not 64 hex characters, or repeated: %q", s)
		}
		seen[s] = true
		key, ok := strings.CutPrefix(Whsec(s), "whsec_")
		if b, err := base64.StdEncoding.DecodeString(key); !ok || err != nil || string(b) != s {
			t.Fatalf("Whsec(%q) = %q does not stand for the same key", s, Whsec(s))
		}
	}
}

// TestForeignLibraryVerifies holds for whatever is signed: the Standard Webhooks
// library accepts it with any one active secret in whsec_ form, and with no
// other secret, body or id.
func TestForeignLibraryVerifies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		id := rapid.StringMatching(`[0-9a-f-]{1,36}`).Draw(t, "id")
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "at"), 0)
		secrets := make([]string, rapid.IntRange(1, 3).Draw(t, "secrets"))
		for i := range secrets {
			secrets[i] = NewSecret()
		}
		keys := make([]ed25519.PrivateKey, rapid.IntRange(0, 2).Draw(t, "keys"))
		for i := range keys {
			keys[i] = NewKeyPair()
		}
		h, err := Headers(id, at, body, secrets, keys...)
		if err != nil {
			t.Fatal(err)
		}

		for i, key := range keys {
			if err := VerifyPublic(h, body, []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, at, 0); err != nil {
				t.Fatalf("key %d of %d: %v", i+1, len(keys), err)
			}
		}
		for i, s := range secrets {
			if err := foreign(t, s).VerifyIgnoringTimestamp(body, h); err != nil {
				t.Fatalf("secret %d of %d: %v", i+1, len(secrets), err)
			}
			if err := VerifyStandard(h, body, []string{s}, at, 0); err != nil {
				t.Fatalf("secret %d of %d: %v", i+1, len(secrets), err)
			}
		}
		stranger := NewSecret()
		if foreign(t, stranger).VerifyIgnoringTimestamp(body, h) == nil {
			t.Fatal("verified with a foreign secret")
		}
		if foreign(t, secrets[0]).VerifyIgnoringTimestamp(append(body, ' '), h) == nil {
			t.Fatal("verified another body")
		}
	})
}

func foreign(t *rapid.T, secret string) *standardwebhooks.Webhook {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(Whsec(secret))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func BenchmarkHeaders(b *testing.B) {
	body := []byte(`{"type":"card.viewed","timestamp":"2026-08-01T00:00:00Z","data":{` + strings.Repeat(`"k":"v",`, 50) + `"z":0}}`)
	secrets := []string{NewSecret(), NewSecret()}
	keys := []ed25519.PrivateKey{NewKeyPair()}
	at := time.Unix(1754000000, 0)
	for _, bb := range []struct {
		name          string
		secrets, keys int
	}{{"1 secret", 1, 0}, {"2 secrets", 2, 0}, {"1 secret and a key", 1, 1}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Headers("0192f0c1-2b3c-7d4e-8f50-112233445566", at, body, secrets[:bb.secrets], keys[:bb.keys]...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
