package deliver

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/signing"
)

func TestTheLogShowsTheRequestWithoutItsSignatures(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("0192f0c1-2b3c-7d4e-8f50-112233445566")
	a := Attempt{EventID: id, URL: "https://example.com/path?token=secret", Body: []byte(`{"a":1}`), Secrets: []string{signing.NewSecret(), signing.NewSecret()}}
	for _, tt := range []struct {
		name string
		keys int
		want string
	}{
		{"two secrets", 0, "v1,… (2)"},
		{"two secrets and a key", 1, "v1,… (2) v1a,… (1)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := a
			for range tt.keys {
				a.Keys = append(a.Keys, signing.NewKeyPair())
			}
			r, err := request(t.Context(), a, time.Unix(1754000000, 0))
			if err != nil {
				t.Fatal(err)
			}
			want := "Content-Length: 7\nContent-Type: application/json\nUser-Agent: Cardwire/1\nWebhook-Id: " + id.String() +
				"\nWebhook-Signature: " + tt.want + "\nWebhook-Timestamp: 1754000000\nX-Devcard-Signature: sha256=…\n"
			if got := string(sentLines(r)); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			if got := r.Header.Get("Webhook-Signature"); strings.Contains(got, "…") || len(strings.Fields(got)) != 2+tt.keys {
				t.Errorf("the request itself was changed: %q", got)
			}
		})
	}
}

func TestHeaderLinesAreBounded(t *testing.T) {
	t.Parallel()
	h := http.Header{"B": {"2", "3"}, "A": {"1"}}
	if got := string(headerLines(h)); got != "A: 1\nB: 2\nB: 3\n" {
		t.Errorf("got %q", got)
	}
	h.Set("C", strings.Repeat("x", maxResponseHeaders))
	if got := string(headerLines(h)); got != "A: 1\nB: 2\nB: 3\n" {
		t.Errorf("a header that does not fit: got %d bytes", len(got))
	}
	h.Set("C", strings.Repeat("x", maxResponseHeaders-len("A: 1\nB: 2\nB: 3\n")-len("C: \n")))
	if got := len(headerLines(h)); got != maxResponseHeaders {
		t.Errorf("a header that just fits: got %d bytes", got)
	}
}
