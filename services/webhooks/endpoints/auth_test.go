package endpoints

import (
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// TestWhoIsCalling: package auth tests tokens; here it counts that each answer is
// ours, comes before anything else of the request is looked at, and changes nothing.
func TestWhoIsCalling(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID.String()
	mint := func(secret string, ttl time.Duration) string {
		t.Helper()
		text, err := auth.Mint(secret, alice, ttl, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := mint(jwtSecret, time.Hour)
	tests := []struct {
		name   string
		method string
		header []string // names and values
		status int
	}{
		{"no token", "GET", nil, 401},
		{"bearer", "GET", []string{"Authorization", "Bearer " + good}, 200},
		{"bearer in small letters", "GET", []string{"Authorization", "bearer " + good}, 200},
		{"cookie", "GET", []string{"Cookie", "token=" + good}, 200},
		{"another scheme", "GET", []string{"Authorization", "Basic YWxpY2U6cGFzc3dvcmQ="}, 401},
		{"another secret", "GET", []string{"Authorization", "Bearer " + mint(strings.Repeat("x", 32), time.Hour)}, 401},
		{"expired", "GET", []string{"Authorization", "Bearer " + mint(jwtSecret, -time.Hour)}, 401},
		{"alg none", "GET", []string{"Authorization", "Bearer eyJhbGciOiJub25lIn0." + strings.Split(good, ".")[1] + "."}, 401},
		{"oversized", "GET", []string{"Authorization", "Bearer " + strings.Repeat("a", 9000)}, 401},
		{"rubbish", "GET", []string{"Authorization", "Bearer \xff"}, 401},
		{"a bad bearer beside a good cookie", "GET", []string{"Authorization", "Bearer x", "Cookie", "token=" + good}, 401},
		{"cookie from another site may read", "GET", []string{"Cookie", "token=" + good, "Sec-Fetch-Site", "cross-site"}, 200},
		{"cookie from another site may not change", "PATCH", []string{"Cookie", "token=" + good, "Sec-Fetch-Site", "cross-site"}, 403},
		{"cookie from another origin may not change", "PATCH", []string{"Cookie", "token=" + good, "Origin", "https://evil.example"}, 403},
		{"cookie from our own origin may change", "PATCH", []string{"Cookie", "token=" + good, "Sec-Fetch-Site", "same-origin"}, 200},
		{"bearer from another site may change", "PATCH", []string{"Authorization", "Bearer " + good, "Sec-Fetch-Site", "cross-site"}, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := "/api/webhooks/" + id
			if tt.method == "PATCH" {
				path += "/rotate-secret"
			}
			r := httptest.NewRequest(tt.method, "https://cardwire.example"+path, nil)
			for i := 0; i < len(tt.header); i += 2 {
				r.Header.Set(tt.header[i], tt.header[i+1])
			}
			a := s.send(r)
			if a.status != tt.status {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if tt.status >= 400 {
				checkProblem(t, a)
			}
			if tt.status == 401 && (a.sentence(t) != "Unauthorized" || a.header.Get("Www-Authenticate") != "Bearer") {
				t.Errorf("%v %s", a.header, a.body)
			}
		})
	}
	t.Run("nobody's body is not even read", func(t *testing.T) {
		t.Parallel()
		for _, body := range []string{"", "{", strings.Repeat("a", 100<<10)} {
			r := httptest.NewRequest("POST", "/api/webhooks?limit=%zz", unread{t})
			r.ContentLength = int64(len(body))
			if a := s.send(r); a.status != 401 {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
	})
}

// TestWhoIsCallingCannotBeTold: the keys that tokens are signed with are not there,
// and never were.
func TestWhoIsCallingCannotBeTold(t *testing.T) {
	t.Parallel()
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	needsKeys, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"id": alice, "exp": time.Now().Add(time.Hour).Unix()}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	s := serverSet(t, pgtest.New(t), func(c *Config) { c.JWKSURL = away.URL })
	s.create(t, alice) // a token of the secret's needs none of them

	r := httptest.NewRequest("POST", "/api/webhooks", unread{t})
	r.Header.Set("Authorization", "Bearer "+needsKeys)
	a := s.send(r)
	if a.status != 503 || a.header.Get("Retry-After") != auth.RetryAfter || !strings.Contains(a.sentence(t), "the token can't be checked right now") {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	checkProblem(t, a)
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, nil
}
