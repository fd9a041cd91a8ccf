package signing

import (
	"crypto/ed25519"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	var (
		at       = time.Unix(1754000000, 0)
		body     = []byte(`{"type":"card.viewed"}`)
		newest   = strings.Repeat("ab", 32)
		older    = strings.Repeat("cd", 32)
		stranger = strings.Repeat("ef", 32)
	)
	tests := []struct {
		name    string
		change  func(h http.Header)
		body    string   // "" means as signed
		secrets []string // nil means newest and older
		now     time.Time
		wantErr string
	}{
		{name: "as signed"},
		{name: "the timestamp is exactly the tolerance old", now: at.Add(Tolerance)},
		{name: "the timestamp is exactly the tolerance ahead", now: at.Add(-Tolerance)},
		{name: "the timestamp is older", now: at.Add(Tolerance + 1), wantErr: "webhook-timestamp is more than"},
		{name: "the timestamp is further ahead", now: at.Add(-Tolerance - 1), wantErr: "webhook-timestamp is more than"},
		{name: "the receiver has only the newest secret", secrets: []string{newest}},
		{
			name: "the receiver has only the older secret: X-DevCard-Signature fails it", secrets: []string{older},
			wantErr: "x-devcard-signature is not by a known secret",
		},
		{name: "the receiver has another secret", secrets: []string{stranger}, wantErr: "no signature by a known secret"},
		{name: "the receiver has no secret", secrets: []string{}, wantErr: "no signature by a known secret"},
		{name: "one byte more in the body", body: string(body) + "\n", wantErr: "no signature by a known secret"},
		{name: "another id", change: set(HeaderID, "other"), wantErr: "no signature by a known secret"},
		{name: "another timestamp", change: set(HeaderTimestamp, "1754000001"), wantErr: "no signature by a known secret"},
		{name: "timestamp that is no number", change: set(HeaderTimestamp, "now"), wantErr: "not a number of seconds"},
		{name: "timestamp beyond 64 bits", change: set(HeaderTimestamp, strings.Repeat("9", 40)), wantErr: "not a number of seconds"},
		{name: "no id", change: set(HeaderID, ""), wantErr: "is missing"},
		{name: "no timestamp", change: set(HeaderTimestamp, ""), wantErr: "is missing"},
		{name: "no signature", change: set(HeaderSignature, ""), wantErr: "is missing"},
		{name: "a signature of another version only", change: replace(HeaderSignature, "v1,", "v2,"), wantErr: "no signature by a known secret"},
		{name: "a signature cut short", change: set(HeaderSignature, "v1,"), wantErr: "no signature by a known secret"},
		{
			name:   "unknown versions before ours are skipped",
			change: func(h http.Header) { h.Set(HeaderSignature, "v1a,AAAA nonsense v9, "+h.Get(HeaderSignature)) },
		},
		{name: "no X-DevCard-Signature", change: set(HeaderDevCard, ""), wantErr: "x-devcard-signature is missing"},
		{name: "X-DevCard-Signature of another scheme", change: replace(HeaderDevCard, "sha256=", "sha1="), wantErr: "x-devcard-signature is missing"},
		{name: "X-DevCard-Signature forged", change: set(HeaderDevCard, "sha256="+strings.Repeat("0", 64)), wantErr: "x-devcard-signature is not by"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, err := Headers("0192f0c1-2b3c-7d4e-8f50-112233445566", at, body, []string{newest, older})
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				tt.change(h)
			}
			received, secrets, now := body, tt.secrets, tt.now
			if tt.body != "" {
				received = []byte(tt.body)
			}
			if secrets == nil {
				secrets = []string{newest, older}
			}
			if now.IsZero() {
				now = at
			}
			err = Verify(h, received, secrets, now, Tolerance)
			switch {
			case tt.wantErr == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.wantErr != "" && err == nil:
				t.Errorf("accepted, want %q", tt.wantErr)
			case tt.wantErr != "" && !strings.Contains(err.Error(), tt.wantErr):
				t.Errorf("got %q, want %q", err, tt.wantErr)
			}
		})
	}
}

func set(name, value string) func(http.Header) {
	return func(h http.Header) { h.Set(name, value) }
}

func replace(name, from, to string) func(http.Header) {
	return func(h http.Header) { h.Set(name, strings.ReplaceAll(h.Get(name), from, to)) }
}

// FuzzVerify: whatever a stranger sends, nothing panics and nothing verifies.
func FuzzVerify(f *testing.F) {
	f.Add("0192f0c1-2b3c-7d4e-8f50-112233445566", "1754000000", "v1,AAAA v1,", "sha256=00", []byte("{}"))
	f.Add("", "-1", " , v1", "sha256=", []byte{0})
	f.Add("id", "1754000000", "v1a,AAAA v1a, v1a", "", []byte("{}"))
	secret, public := NewSecret(), NewKeyPair().Public().(ed25519.PublicKey)
	f.Fuzz(func(t *testing.T, id, timestamp, signature, devCard string, body []byte) {
		h := http.Header{HeaderID: {id}, HeaderTimestamp: {timestamp}, HeaderSignature: {signature}, HeaderDevCard: {devCard}}
		if Verify(h, body, []string{secret}, time.Unix(1754000000, 0), Tolerance) == nil {
			t.Error("a forged signature verified")
		}
		if VerifyPublic(h, body, []ed25519.PublicKey{public}, time.Unix(1754000000, 0), Tolerance) == nil {
			t.Error("a forged signature of a key verified")
		}
	})
}
