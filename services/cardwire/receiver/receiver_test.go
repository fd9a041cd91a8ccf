package receiver

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/cardwire/cardwire/services/internal/signing"
)

var at = time.Date(2026, 11, 23, 14, 3, 22, 0, time.UTC)

const (
	eventID = "0193b0aa-1111-7222-8333-444455556666"
	body    = `{"type":"card.viewed","timestamp":"2026-11-23T14:03:22Z","data":{"cardId": null, "username":"alice"}}`
)

// post makes one POST, signed with a secret unless that is empty.
func post(t *testing.T, rc *Receiver, target, secret, body string) (status int) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	if secret != "" {
		h, err := signing.Headers(eventID, at, []byte(body), []string{secret})
		if err != nil {
			t.Fatal(err)
		}
		r.Header = h
	}
	w := httptest.NewRecorder()
	rc.ServeHTTP(w, r)
	return w.Code
}

func TestReceiver(t *testing.T) {
	t.Parallel()
	const viewed = "14:03:22  card.viewed  " + eventID + `  {"cardId":null,"username":"alice"}  `
	for name, tc := range map[string]struct {
		target, secret, body string
		status               int
		line                 string
	}{
		"both signatures hold: 204":    {Path, "current", body, 204, viewed + "signatures ok  204\n"},
		"a status is asked for":        {Path + "?status=503", "current", body, 503, viewed + "signatures ok  503\n"},
		"another secret: 401":          {Path, "other", body, 401, viewed + "BAD (verify: webhook-signature holds no signature by a known secret)  401\n"},
		"no signatures: 401":           {Path, "", "x", 401, "14:03:22  -  -  (no JSON)  BAD (verify: webhook-id, webhook-timestamp or webhook-signature is missing)  401\n"},
		"a bad one is never 500":       {Path + "?status=500", "other", body, 401, viewed + "BAD (verify: webhook-signature holds no signature by a known secret)  401\n"},
		"a status that is none":        {Path + "?status=abc", "current", body, 400, ""},
		"a status out of range":        {Path + "?status=100", "current", body, 400, ""},
		"a body beyond all bounds":     {Path, "current", strings.Repeat("x", maxBody+1), 413, ""},
		"an event that has no data":    {Path, "current", `{"type":"a.b"}`, 204, "14:03:22  a.b  " + eventID + "    signatures ok  204\n"},
		"a type that moves the cursor": {Path, "current", `{"type":"\u001b[2J"}`, 204, "14:03:22  ?[2J  " + eventID + "    signatures ok  204\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			rc := &Receiver{
				Secrets: func(context.Context) ([]string, error) { return []string{"current"}, nil },
				Out:     &out, Now: func() time.Time { return at },
			}
			if status := post(t, rc, tc.target, tc.secret, tc.body); status != tc.status {
				t.Errorf("status %d, want %d", status, tc.status)
			}
			if diff := cmp.Diff(tc.line, out.String()); diff != "" {
				t.Errorf("line (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReceiverLearnsSecrets(t *testing.T) {
	t.Parallel()
	asked, current := 0, "old"
	var fail error
	rc := &Receiver{
		Secrets: func(context.Context) ([]string, error) { asked++; return []string{current}, fail },
		Out:     new(bytes.Buffer), Now: func() time.Time { return at },
	}
	check := func(what, secret string, wantStatus, wantAsked int) {
		t.Helper()
		if status := post(t, rc, Path, secret, body); status != wantStatus || asked != wantAsked {
			t.Errorf("%s: status %d after asking %d times, want %d after %d", what, status, asked, wantStatus, wantAsked)
		}
	}
	check("the first POST asks", "old", 204, 1)
	check("the second does not", "old", 204, 1)
	current = "new"
	check("a rotated secret is learned", "new", 204, 2)
	check("the old one ends", "old", 401, 3)
	fail = errors.New("no connection")
	check("what is known still holds", "new", 204, 3)
	check("what is unknown fails", "old", 401, 4)
	fail = nil
	check("a failure forgets nothing", "new", 204, 4)
}

func FuzzDescribe(f *testing.F) {
	f.Add(eventID, []byte(body))
	f.Add("\x1b]0;x\x07", []byte(`{"type":"\u009b2J","data":"\u202e`+"\x7f"+`"}`))
	f.Fuzz(func(t *testing.T, id string, body []byte) {
		line := describe(id, body)
		if n := utf8.RuneCountInString(line); n > maxID+maxType+maxData+3+4 {
			t.Errorf("%d characters: %q", n, line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("unprintable at %d: %q", i, line)
		}
	})
}
