package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

const secret = "0123456789abcdef0123456789abcdef"

var (
	alice = uuid.MustParse("00000000-0000-7000-8000-000000000001")
	bob   = uuid.MustParse("00000000-0000-7000-8000-000000000002")
	now   = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
)

func newVerifier(t testing.TB, change func(*Config)) *Verifier {
	t.Helper()
	cfg := Config{Secret: secret, Now: func() time.Time { return now }}
	if change != nil {
		change(&cfg)
	}
	v, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sign(t testing.TB, method jwt.SigningMethod, key any, header, claims map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	for k, v := range header {
		token.Header[k] = v
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// with returns the claims of a good token of alice, changed; a nil value drops one.
func with(changes map[string]any) map[string]any {
	c := map[string]any{"id": alice.String(), "exp": now.Add(time.Hour).Unix(), "iat": now.Unix()}
	for k, v := range changes {
		c[k] = v
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

func request(method string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "https://cardwire.example/api/webhooks", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func TestUserByClaims(t *testing.T) {
	t.Parallel()
	issuer := func(c *Config) { c.Issuer = "devcard" }
	audience := func(c *Config) { c.Audience = "cardwire" }
	tests := []struct {
		name    string
		claims  map[string]any
		config  func(*Config)
		wantErr string // "" means alice
	}{
		{name: "claim id, as DevCard's", claims: with(nil)},
		{name: "claim sub", claims: with(map[string]any{"id": nil, "sub": alice.String()})},
		{name: "id counts before sub", claims: with(map[string]any{"sub": bob.String()})},
		{name: "an id that is no UUID does not fall back to sub", claims: with(map[string]any{"id": "42", "sub": alice.String()}), wantErr: "neither id nor sub"},
		{name: "an empty id does not fall back to sub", claims: with(map[string]any{"id": "", "sub": alice.String()}), wantErr: "neither id nor sub"},
		{name: "other claims beside it", claims: with(map[string]any{"username": "alice", "roles": []string{"a"}})},
		{name: "UUID in capitals", claims: with(map[string]any{"id": strings.ToUpper(alice.String())})},
		{name: "no user", claims: with(map[string]any{"id": nil}), wantErr: "neither id nor sub"},
		{name: "id is a number", claims: with(map[string]any{"id": 7}), wantErr: "malformed"},
		{name: "id is an object", claims: with(map[string]any{"id": map[string]any{}}), wantErr: "malformed"},
		{name: "id in braces", claims: with(map[string]any{"id": "{" + alice.String() + "}"}), wantErr: "neither id nor sub"},
		{name: "id as a URN", claims: with(map[string]any{"id": "urn:uuid:" + alice.String()}), wantErr: "neither id nor sub"},
		{name: "id without hyphens", claims: with(map[string]any{"id": strings.ReplaceAll(alice.String(), "-", "")}), wantErr: "neither id nor sub"},
		{name: "id of zeros", claims: with(map[string]any{"id": uuid.Nil.String()}), wantErr: "neither id nor sub"},

		{name: "no expiry", claims: with(map[string]any{"exp": nil}), wantErr: "a required claim is missing"},
		{name: "expired within the leeway", claims: with(map[string]any{"exp": now.Add(-59 * time.Second).Unix()})},
		{name: "expired beyond the leeway", claims: with(map[string]any{"exp": now.Add(-61 * time.Second).Unix()}), wantErr: "expired"},
		{name: "expiry is text", claims: with(map[string]any{"exp": "tomorrow"}), wantErr: "malformed"},
		{name: "expiry is negative", claims: with(map[string]any{"exp": -1}), wantErr: "expired"},
		{name: "not yet valid", claims: with(map[string]any{"nbf": now.Add(61 * time.Second).Unix()}), wantErr: "not valid yet"},
		{name: "not yet valid, within the leeway", claims: with(map[string]any{"nbf": now.Add(59 * time.Second).Unix()})},
		{name: "issued in the future", claims: with(map[string]any{"iat": now.Add(61 * time.Second).Unix()}), wantErr: "not valid yet"},
		{name: "no time of issue", claims: with(map[string]any{"iat": nil})},

		{name: "the issuer", claims: with(map[string]any{"iss": "devcard"}), config: issuer},
		{name: "another issuer", claims: with(map[string]any{"iss": "other"}), config: issuer, wantErr: "issuer"},
		{name: "no issuer", claims: with(nil), config: issuer, wantErr: "required"},
		{name: "the audience", claims: with(map[string]any{"aud": "cardwire"}), config: audience},
		{name: "the audience among others", claims: with(map[string]any{"aud": []string{"a", "cardwire"}}), config: audience},
		{name: "another audience", claims: with(map[string]any{"aud": "other"}), config: audience, wantErr: "audience"},
		{name: "no audience", claims: with(nil), config: audience, wantErr: "required"},
		{name: "any issuer and audience if none is configured", claims: with(map[string]any{"iss": "x", "aud": "y"})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			token := sign(t, jwt.SigningMethodHS256, []byte(secret), nil, tt.claims)
			user, err := newVerifier(t, tt.config).User(request("GET", "Authorization", "Bearer "+token))
			expect(t, user, err, tt.wantErr)
		})
	}
}

func TestUserByForgery(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, jwt.SigningMethodHS256, []byte(secret), nil, with(nil))
	parts := strings.Split(good, ".")
	encode := base64.RawURLEncoding.EncodeToString
	header := func(json string) string { return encode([]byte(json)) + "." + parts[1] + "." }

	for name, token := range map[string]string{
		"another secret":             sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), nil, with(nil)),
		"alg none":                   sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, with(nil)),
		"alg none with a signature":  header(`{"alg":"none"}`) + parts[2],
		"alg None":                   header(`{"alg":"None"}`),
		"no alg":                     header(`{"typ":"JWT"}`) + parts[2],
		"alg is a number":            header(`{"alg":5}`) + parts[2],
		"alg is unknown":             header(`{"alg":"XX999"}`) + parts[2],
		"HS384 with our secret":      sign(t, jwt.SigningMethodHS384, []byte(secret), nil, with(nil)),
		"HS512 with our secret":      sign(t, jwt.SigningMethodHS512, []byte(secret), nil, with(nil)),
		"RS256":                      sign(t, jwt.SigningMethodRS256, rsaKey, nil, with(nil)),
		"critical extension":         sign(t, jwt.SigningMethodHS256, []byte(secret), map[string]any{"crit": []string{"b64"}, "b64": false}, with(nil)),
		"no signature":               parts[0] + "." + parts[1] + ".",
		"signature cut":              good[:len(good)-2],
		"signature of another token": parts[0] + "." + encode([]byte(`{"id":"`+bob.String()+`","exp":9999999999}`)) + "." + parts[2],
		"two parts":                  parts[0] + "." + parts[1],
		"four parts":                 good + ".x",
		"padded base64":              good + "=",
		"standard base64":            strings.ReplaceAll(good, "_", "/") + "+/",
		"header is no JSON":          encode([]byte("{")) + "." + parts[1] + "." + parts[2],
		"only dots":                  "..",
		"empty":                      "",
		"a word":                     "token",
		"more than 8 KiB":            strings.Repeat("a", 8<<10+1),
		"white space inside":         parts[0] + ". " + parts[1] + "." + parts[2],
		"many dots":                  strings.Repeat(".", 8<<10),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user, err := newVerifier(t, nil).User(request("GET", "Authorization", "Bearer "+token))
			expect(t, user, err, "invalid token")
			if len(err.Error()) > 80 {
				t.Errorf("the error quotes the token: %v", err)
			}
		})
	}
	t.Run("kid is ignored", func(t *testing.T) {
		t.Parallel()
		token := sign(t, jwt.SigningMethodHS256, []byte(secret), map[string]any{"kid": "../../dev/null"}, with(nil))
		user, err := newVerifier(t, nil).User(request("GET", "Authorization", "Bearer "+token))
		expect(t, user, err, "")
	})
}

func TestUserBySource(t *testing.T) {
	t.Parallel()
	mine := sign(t, jwt.SigningMethodHS256, []byte(secret), nil, with(nil))
	other := sign(t, jwt.SigningMethodHS256, []byte(secret), nil, with(map[string]any{"id": bob.String()}))
	const bearer, cookie = "Authorization", "Cookie"
	tests := []struct {
		name    string
		method  string
		header  []string
		wantErr string
	}{
		{"bearer", "GET", []string{bearer, "Bearer " + mine}, ""},
		{"bearer in other letters and with spaces", "GET", []string{bearer, "bEARER   " + mine + " "}, ""},
		{"cookie", "GET", []string{cookie, "a=b; token=" + mine}, ""},
		{"bearer wins over the cookie", "GET", []string{bearer, "Bearer " + mine, cookie, "token=" + other}, ""},
		{"an invalid bearer is not saved by the cookie", "GET", []string{bearer, "Bearer x", cookie, "token=" + mine}, "invalid token"},
		{"an empty bearer is not saved by the cookie", "GET", []string{bearer, "Bearer", cookie, "token=" + mine}, "invalid token"},
		{"another scheme leaves the cookie", "GET", []string{bearer, "Basic YTpi", cookie, "token=" + mine}, ""},
		{"another scheme", "GET", []string{bearer, "Basic YTpi"}, "no token"},
		{"the token without a scheme", "GET", []string{bearer, mine}, "no token"},
		{"two Authorization headers", "GET", []string{bearer, "Bearer " + mine, bearer, "Bearer " + mine}, "more than one"},
		{"nothing", "GET", nil, "no token"},
		{"an empty cookie", "GET", []string{cookie, "token="}, "no token"},
		{"another cookie", "GET", []string{cookie, "session=" + mine}, "no token"},
		{"an invalid cookie", "GET", []string{cookie, "token=x"}, "invalid token"},
		{"more than 8 KiB in the cookie", "GET", []string{cookie, "token=" + strings.Repeat("a", 8<<10+1)}, "more than 8192 bytes"},

		{"cookie, change from the same origin", "POST", []string{cookie, "token=" + mine, "Sec-Fetch-Site", "same-origin"}, ""},
		{"cookie, change from another site", "POST", []string{cookie, "token=" + mine, "Sec-Fetch-Site", "cross-site"}, "cross-origin"},
		{"cookie, change from a sibling site", "DELETE", []string{cookie, "token=" + mine, "Sec-Fetch-Site", "same-site"}, "cross-origin"},
		{"cookie, change typed in by the user", "POST", []string{cookie, "token=" + mine, "Sec-Fetch-Site", "none"}, ""},
		{"cookie, change from another origin, old browser", "PATCH", []string{cookie, "token=" + mine, "Origin", "https://evil.example"}, "cross-origin"},
		{"cookie, change from a page without origin", "PATCH", []string{cookie, "token=" + mine, "Origin", "null"}, "cross-origin"},
		{"cookie, change from the same origin, old browser", "PUT", []string{cookie, "token=" + mine, "Origin", "https://cardwire.example"}, ""},
		{"cookie, change by no browser", "POST", []string{cookie, "token=" + mine}, ""},
		{"cookie, reading from another site", "GET", []string{cookie, "token=" + mine, "Sec-Fetch-Site", "cross-site"}, ""},
		{"bearer, change from another site", "POST", []string{bearer, "Bearer " + mine, "Sec-Fetch-Site", "cross-site"}, ""},
		{"no token, change from another site", "POST", []string{"Sec-Fetch-Site", "cross-site"}, "no token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			user, err := newVerifier(t, nil).User(request(tt.method, tt.header...))
			expect(t, user, err, tt.wantErr)
		})
	}
}

// expect holds a result against alice, or against an error that contains want
// and is one of the sentinels.
func expect(t *testing.T, user uuid.UUID, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil || user != alice {
			t.Errorf("got %v, %v; want alice", user, err)
		}
		return
	}
	if err == nil || user != uuid.Nil {
		t.Fatalf("got %v, %v; want %q", user, err, want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want %q", err, want)
	}
	if !errors.Is(err, ErrNoToken) && !errors.Is(err, ErrInvalidToken) && !errors.Is(err, ErrCrossOrigin) {
		t.Errorf("%v is none of the sentinels", err)
	}
}

func TestMintRefusesAShortSecret(t *testing.T) {
	t.Parallel()
	for _, short := range []string{"", secret[:31]} {
		if _, err := Mint(short, alice, time.Hour, now); err == nil || !strings.Contains(err.Error(), "at least 32") {
			t.Errorf("Mint with %d bytes: %v", len(short), err)
		}
	}
}

func TestMintedTokensVerifyUntilTheyExpire(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		user := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).
			Filter(func(b []byte) bool { return uuid.UUID(b) != uuid.Nil }).Draw(r, "user"))
		ttl := time.Duration(rapid.Int64Range(0, 1e6).Draw(r, "ttl")) * time.Second
		after := time.Duration(rapid.Int64Range(-120, 2e6).Draw(r, "after")) * time.Second
		token, err := Mint(secret, user, ttl, now)
		if err != nil {
			r.Fatal(err)
		}
		v := newVerifier(t, func(c *Config) { c.Now = func() time.Time { return now.Add(after) } })
		got, err := v.User(request("GET", "Authorization", "Bearer "+token))
		if want := after >= -leeway && after < ttl+leeway; want != (err == nil) {
			r.Fatalf("ttl %v, after %v: %v", ttl, after, err)
		}
		if err == nil && got != user {
			r.Fatalf("minted for %v, is %v", user, got)
		}
	})
}

// FuzzUser: nothing panics, and nobody gets in with a token that we did not sign.
func FuzzUser(f *testing.F) {
	good := sign(f, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), nil, with(nil))
	f.Add("Bearer "+good, "token="+good)
	f.Add("Bearer "+sign(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, with(nil)), "")
	f.Add("bearer ..", "token=\"a\"; token=b")
	v := newVerifier(f, nil)
	f.Fuzz(func(t *testing.T, authorization, cookie string) {
		r := request("POST", "Authorization", authorization, "Cookie", cookie)
		user, err := v.User(r)
		if err == nil {
			t.Fatalf("got in as %v", user)
		}
		if len(err.Error()) > 80 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}

func BenchmarkUser(b *testing.B) {
	r := request("GET", "Authorization", "Bearer "+sign(b, jwt.SigningMethodHS256, []byte(secret), nil, with(nil)))
	v := newVerifier(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.User(r); err != nil {
			b.Fatal(err)
		}
	}
}
