package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// pairs are the key pairs of a provider, made once, and some that are not its own.
var pairs = sync.OnceValue(func() (p struct {
	rsa, rsaToo, foreign *rsa.PrivateKey
	p256, p384, p521     *ecdsa.PrivateKey
	ed                   ed25519.PrivateKey
},
) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	for _, k := range []**rsa.PrivateKey{&p.rsa, &p.rsaToo, &p.foreign} {
		*k, err = rsa.GenerateKey(rand.Reader, 2048)
		must(err)
	}
	for curve, k := range map[elliptic.Curve]**ecdsa.PrivateKey{elliptic.P256(): &p.p256, elliptic.P384(): &p.p384, elliptic.P521(): &p.p521} {
		*k, err = ecdsa.GenerateKey(curve, rand.Reader)
		must(err)
	}
	_, p.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	return p
})

// jwk is a public key as a JWKS holds it, with some members set besides.
func jwk(t testing.TB, key crypto.PublicKey, members ...string) map[string]any {
	t.Helper()
	k, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(k.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(members); i += 2 {
		m[members[i]] = members[i+1]
	}
	return m
}

// A provider publishes a JWKS.
type provider struct {
	t   testing.TB
	url string

	mu     sync.Mutex
	status int
	body   string
	hits   int
}

func (p *provider) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits++
	w.WriteHeader(p.status)
	_, _ = io.WriteString(w, p.body)
}

// RoundTrip answers without a network.
func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

func (p *provider) publish(keys ...map[string]any) { p.answer(http.StatusOK, document(p.t, keys...)) }

func (p *provider) answer(status int, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.body = status, body
}

func (p *provider) fetched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits
}

func document(t testing.TB, keys ...map[string]any) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": append([]map[string]any{}, keys...)})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// newProvider publishes one key of each kind, under its algorithm's name.
func newProvider(t testing.TB) *provider {
	t.Helper()
	p := &provider{t: t}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL + "/.well-known/jwks.json"
	k := pairs()
	p.publish(
		jwk(t, &k.rsa.PublicKey, "kid", "rs", "use", "sig"),
		jwk(t, &k.rsaToo.PublicKey, "kid", "rs512only", "alg", "RS512"),
		jwk(t, &k.p256.PublicKey, "kid", "es256"), jwk(t, &k.p384.PublicKey, "kid", "es384"), jwk(t, &k.p521.PublicKey, "kid", "es512"),
		jwk(t, k.ed.Public(), "kid", "ed", "alg", "EdDSA"),
		jwk(t, &k.foreign.PublicKey, "kid", "twice"), jwk(t, &k.p256.PublicKey, "kid", "twice"),
		jwk(t, &k.rsa.PublicKey, "kid", "encrypts", "use", "enc"),
		map[string]any{"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "unsupported"},
	)
	return p
}

// verifier takes tokens of the provider, and no others unless it is changed.
func (p *provider) verifier(change func(*Config)) *Verifier {
	p.t.Helper()
	return newVerifier(p.t, func(c *Config) {
		c.Secret, c.JWKSURL = "", p.url
		if change != nil {
			change(c)
		}
	})
}

func bearerOf(token string) *http.Request { return request("GET", "Authorization", "Bearer "+token) }

func TestUserByJWKS(t *testing.T) {
	t.Parallel()
	p, k := newProvider(t), pairs()
	kid := func(name string) map[string]any { return map[string]any{"kid": name} }
	der, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	// evil is a server that would hand out the forger's key to whoever asks it.
	evil := &provider{t: t}
	evil.publish(jwk(t, &k.foreign.PublicKey, "kid", "rs"))
	elsewhere := httptest.NewServer(evil)
	t.Cleanup(elsewhere.Close)

	rs256 := sign(t, jwt.SigningMethodRS256, k.rsa, kid("rs"), with(nil))
	parts := strings.Split(rs256, ".")
	header := func(json string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(json)) + "." + parts[1] + "." + parts[2]
	}
	both := func(c *Config) { c.Secret = secret }
	named := func(c *Config) { c.Issuer, c.Audience = "https://login.example", "cardwire" }

	tests := []struct {
		name, token string
		config      func(*Config)
		wantErr     string
	}{
		{"RS256", rs256, nil, ""},
		{"RS384 with the same key", sign(t, jwt.SigningMethodRS384, k.rsa, kid("rs"), with(nil)), nil, ""},
		{"RS512 with a key for RS512", sign(t, jwt.SigningMethodRS512, k.rsaToo, kid("rs512only"), with(nil)), nil, ""},
		{"ES256", sign(t, jwt.SigningMethodES256, k.p256, kid("es256"), with(nil)), nil, ""},
		{"ES384", sign(t, jwt.SigningMethodES384, k.p384, kid("es384"), with(nil)), nil, ""},
		{"ES512", sign(t, jwt.SigningMethodES512, k.p521, kid("es512"), with(nil)), nil, ""},
		{"EdDSA", sign(t, jwt.SigningMethodEdDSA, k.ed, kid("ed"), with(nil)), nil, ""},
		{"HS256 beside a JWKS", sign(t, jwt.SigningMethodHS256, []byte(secret), nil, with(nil)), both, ""},
		{"HS256 with a kid of the JWKS, our secret", sign(t, jwt.SigningMethodHS256, []byte(secret), kid("rs"), with(nil)), both, ""},
		{"RS256 beside a secret", rs256, both, ""},
		{"issuer and audience", sign(t, jwt.SigningMethodRS256, k.rsa, kid("rs"), with(map[string]any{"iss": "https://login.example", "aud": "cardwire"})), named, ""},

		{"HS256 without a secret configured", sign(t, jwt.SigningMethodHS256, []byte(secret), nil, with(nil)), nil, "signature or algorithm"},
		{"HS256 with an empty secret", sign(t, jwt.SigningMethodHS256, []byte{}, nil, with(nil)), nil, "signature or algorithm"},
		{"HS256, the public key as PEM for a secret", sign(t, jwt.SigningMethodHS256, asPEM, kid("rs"), with(nil)), both, "signature or algorithm"},
		{"HS256, the public key as DER for a secret", sign(t, jwt.SigningMethodHS256, der, kid("rs"), with(nil)), both, "signature or algorithm"},
		{"HS256, the modulus for a secret", sign(t, jwt.SigningMethodHS256, k.rsa.N.Bytes(), kid("rs"), with(nil)), both, "signature or algorithm"},
		{"HS256, the public key for a secret, JWKS only", sign(t, jwt.SigningMethodHS256, asPEM, kid("rs"), with(nil)), nil, "signature or algorithm"},
		{"HS512, the public key for a secret", sign(t, jwt.SigningMethodHS512, asPEM, kid("rs"), with(nil)), both, "signature or algorithm"},
		{"HS256 header over an RS256 signature", header(`{"alg":"HS256","kid":"rs"}`), both, "signature or algorithm"},
		{"RS256 without a JWKS configured", rs256, func(c *Config) { c.Secret, c.JWKSURL = secret, "" }, "signature or algorithm"},
		{"PS256", sign(t, jwt.SigningMethodPS256, k.rsa, kid("rs"), with(nil)), nil, "signature or algorithm"},
		{"alg none", header(`{"alg":"none","kid":"rs"}`), both, "signature or algorithm"},
		{"alg None", header(`{"alg":"None","kid":"rs"}`), nil, "malformed"},
		{"alg NONE", header(`{"alg":"NONE","kid":"rs"}`), nil, "malformed"},
		{"alg nOnE with white space", header(`{"alg":" nOnE ","kid":"rs"}`), nil, "malformed"},
		{"alg in small letters", header(`{"alg":"rs256","kid":"rs"}`), nil, "malformed"},
		{"alg is an empty text", header(`{"alg":"","kid":"rs"}`), nil, "malformed"},
		{"alg is a list", header(`{"alg":["RS256"],"kid":"rs"}`), nil, "malformed"},
		{"alg twice, none last", header(`{"alg":"RS256","kid":"rs","alg":"none"}`), nil, "signature or algorithm"},

		{"another's key under a kid of ours", sign(t, jwt.SigningMethodRS256, k.foreign, kid("rs"), with(nil)), nil, "signature or algorithm"},
		{"RS256 with a key for RS512", sign(t, jwt.SigningMethodRS256, k.rsaToo, kid("rs512only"), with(nil)), nil, "malformed"},
		{"ES256 named, an RSA key", header(`{"alg":"ES256","kid":"rs"}`), nil, "signature or algorithm"},
		{"EdDSA named, an elliptic curve's key", header(`{"alg":"EdDSA","kid":"es256"}`), nil, "signature or algorithm"},
		{"ES256 with a key on P-384", sign(t, es256(), k.p384, kid("es384"), with(nil)), nil, "signature or algorithm"},
		{"ES384 named, a key on P-256", header(`{"alg":"ES384","kid":"es256"}`), nil, "signature or algorithm"},

		{"no kid, several keys", sign(t, jwt.SigningMethodRS256, k.rsa, nil, with(nil)), nil, "names no key"},
		{"unknown kid", sign(t, jwt.SigningMethodRS256, k.rsa, kid("nobody"), with(nil)), nil, "unknown key"},
		{"empty kid", sign(t, jwt.SigningMethodRS256, k.rsa, kid(""), with(nil)), nil, "unknown key"},
		{"kid is a path", sign(t, jwt.SigningMethodRS256, k.rsa, kid("../../../../dev/null"), with(nil)), nil, "unknown key"},
		{"kid is a URL", sign(t, jwt.SigningMethodRS256, k.foreign, kid(elsewhere.URL), with(nil)), nil, "unknown key"},
		{"kid is SQL", sign(t, jwt.SigningMethodRS256, k.rsa, kid("' OR 1=1 --"), with(nil)), nil, "unknown key"},
		{"kid in other letters", sign(t, jwt.SigningMethodRS256, k.rsa, kid("RS"), with(nil)), nil, "unknown key"},
		{"kid of 4 KB", sign(t, jwt.SigningMethodRS256, k.rsa, kid(strings.Repeat("k", 4<<10)), with(nil)), nil, "unknown key"},
		{"kid of 16 KB", sign(t, jwt.SigningMethodRS256, k.rsa, kid(strings.Repeat("k", 16<<10)), with(nil)), nil, "more than 8192 bytes"},
		{"kid is a number", header(`{"alg":"RS256","kid":1}`), nil, "malformed"},
		{"kid is null", header(`{"alg":"RS256","kid":null}`), nil, "malformed"},
		{"kid is a list", header(`{"alg":"RS256","kid":["rs"]}`), nil, "malformed"},
		{"kid that two keys have", sign(t, jwt.SigningMethodRS256, k.foreign, kid("twice"), with(nil)), nil, "unknown key"},
		{"kid of a key that only encrypts", sign(t, jwt.SigningMethodRS256, k.rsa, kid("encrypts"), with(nil)), nil, "unknown key"},
		{"kid of a key that is not supported", sign(t, jwt.SigningMethodES256, k.p256, kid("unsupported"), with(nil)), nil, "unknown key"},
		{"kid twice, of another key last", header(`{"alg":"RS256","kid":"rs","kid":"rs512only"}`), nil, "malformed"},

		{"jku of the forger's", sign(t, jwt.SigningMethodRS256, k.foreign, map[string]any{"kid": "rs", "jku": elsewhere.URL}, with(nil)), nil, "signature or algorithm"},
		{"x5u of the forger's", sign(t, jwt.SigningMethodRS256, k.foreign, map[string]any{"kid": "rs", "x5u": elsewhere.URL}, with(nil)), nil, "signature or algorithm"},
		{"jwk of the forger's", sign(t, jwt.SigningMethodRS256, k.foreign, map[string]any{"kid": "rs", "jwk": jwk(t, &k.foreign.PublicKey)}, with(nil)), nil, "signature or algorithm"},
		{"x5c of the forger's", sign(t, jwt.SigningMethodRS256, k.foreign, map[string]any{"kid": "rs", "x5c": []string{"AAAA"}}, with(nil)), nil, "signature or algorithm"},
		{"jku, jwk and x5u beside a good signature", sign(t, jwt.SigningMethodRS256, k.rsa, map[string]any{"kid": "rs", "jku": elsewhere.URL, "x5u": elsewhere.URL, "jwk": jwk(t, &k.foreign.PublicKey)}, with(nil)), nil, ""},
		{"critical extension", sign(t, jwt.SigningMethodRS256, k.rsa, map[string]any{"kid": "rs", "crit": []string{"exp"}}, with(nil)), nil, "malformed"},
		{"empty list of critical extensions", sign(t, jwt.SigningMethodRS256, k.rsa, map[string]any{"kid": "rs", "crit": []string{}}, with(nil)), nil, "malformed"},

		{"expired", sign(t, jwt.SigningMethodRS256, k.rsa, kid("rs"), with(map[string]any{"exp": now.Add(-61 * time.Second).Unix()})), nil, "expired"},
		{"no expiry", sign(t, jwt.SigningMethodES256, k.p256, kid("es256"), with(map[string]any{"exp": nil})), nil, "a required claim is missing"},
		{"not yet valid", sign(t, jwt.SigningMethodEdDSA, k.ed, kid("ed"), with(map[string]any{"nbf": now.Add(61 * time.Second).Unix()})), nil, "not valid yet"},
		{"issued in the future", sign(t, jwt.SigningMethodEdDSA, k.ed, kid("ed"), with(map[string]any{"iat": now.Add(61 * time.Second).Unix()})), nil, "not valid yet"},
		{"another issuer", sign(t, jwt.SigningMethodRS256, k.rsa, kid("rs"), with(map[string]any{"iss": "https://evil.example", "aud": "cardwire"})), named, "issuer"},
		{"the issuer with a slash", sign(t, jwt.SigningMethodRS256, k.rsa, kid("rs"), with(map[string]any{"iss": "https://login.example/", "aud": "cardwire"})), named, "issuer"},
		{"another audience", sign(t, jwt.SigningMethodRS256, k.rsa, kid("rs"), with(map[string]any{"iss": "https://login.example", "aud": "other"})), named, "audience"},

		{"signature cut", rs256[:len(rs256)-4], nil, "invalid token"},
		{"no signature", parts[0] + "." + parts[1] + ".", nil, "signature or algorithm"},
		{"claims cut", parts[0] + "." + parts[1][:len(parts[1])-4] + "." + parts[2], nil, "malformed"},
		{"claims of another token", parts[0] + "." + strings.Split(sign(t, jwt.SigningMethodRS256, k.rsa, kid("rs"), with(map[string]any{"id": bob.String()})), ".")[1] + "." + parts[2], nil, "signature or algorithm"},
		{"header only", parts[0], nil, "malformed"},
		{"an encrypted token's five parts", rs256 + ".a.b", nil, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			user, err := p.verifier(tt.config).User(bearerOf(tt.token))
			expect(t, user, err, tt.wantErr)
			if tt.wantErr != "" && !errors.Is(err, ErrInvalidToken) {
				t.Errorf("got %v, want an invalid token", err)
			}
		})
	}
	t.Cleanup(func() {
		if n := evil.fetched(); n != 0 {
			t.Errorf("a server that a token named was asked %d times", n)
		}
	})
}

// es256 signs with whatever curve the key is on, as a forger would.
func es256() jwt.SigningMethod {
	loose := *jwt.SigningMethodES256
	loose.KeySize, loose.CurveBits = 48, 384
	return &loose
}

func TestTheOnlyKeyNeedsNoName(t *testing.T) {
	t.Parallel()
	p, k := newProvider(t), pairs()
	for name, published := range map[string]map[string]any{
		"a key with a kid":    jwk(t, k.ed.Public(), "kid", "ed"),
		"a key without a kid": jwk(t, k.ed.Public()),
	} {
		p.publish(published)
		v := p.verifier(nil)
		user, err := v.User(bearerOf(sign(t, jwt.SigningMethodEdDSA, k.ed, nil, with(nil))))
		if err != nil || user != alice {
			t.Errorf("%s: %v, %v", name, user, err)
		}
		if _, err := v.User(bearerOf(sign(t, jwt.SigningMethodRS256, k.rsa, nil, with(nil)))); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s, a token of another kind of key: %v", name, err)
		}
	}
}

func TestJWKSRotates(t *testing.T) {
	t.Parallel()
	p, k := newProvider(t), pairs()
	v := p.verifier(nil)
	old := bearerOf(sign(t, jwt.SigningMethodRS256, k.rsa, map[string]any{"kid": "2025"}, with(nil)))
	fresh := bearerOf(sign(t, jwt.SigningMethodES256, k.p256, map[string]any{"kid": "2026"}, with(nil)))

	p.publish(jwk(t, &k.rsa.PublicKey, "kid", "2025"))
	if err := v.jwks.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := v.User(old); err != nil {
			t.Fatalf("known key: %v", err)
		}
	}
	if n := p.fetched(); n != 1 {
		t.Fatalf("fetched %d times for a known key", n)
	}

	p.publish(jwk(t, &k.p256.PublicKey, "kid", "2026"))
	if user, err := v.User(fresh); err != nil || user != alice {
		t.Errorf("the first token of a new key: %v, %v", user, err)
	}
	if _, err := v.User(old); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("a key that was taken out: %v", err)
	}

	before := p.fetched()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := v.User(old); !errors.Is(err, ErrInvalidToken) {
				t.Errorf("an unknown key: %v", err)
			}
		})
	}
	wg.Wait()
	if n := p.fetched() - before; n != 0 {
		t.Errorf("tokens with unknown keys made us fetch %d times within %s", n, unknownEvery)
	}
}

func TestJWKSAway(t *testing.T) {
	t.Parallel()
	p, k := newProvider(t), pairs()
	v := p.verifier(func(c *Config) { c.Secret = secret })
	known := bearerOf(sign(t, jwt.SigningMethodRS256, k.rsa, map[string]any{"kid": "rs"}, with(nil)))
	unknown := bearerOf(sign(t, jwt.SigningMethodRS256, k.rsa, map[string]any{"kid": "new"}, with(nil)))
	hs256 := bearerOf(sign(t, jwt.SigningMethodHS256, []byte(secret), nil, with(nil)))
	good := p.body

	p.answer(http.StatusBadGateway, good)
	for _, r := range []*http.Request{known, unknown, known} {
		if _, err := v.User(r); err != ErrUnavailable { // by itself: nothing of the provider's is quoted
			t.Errorf("away from the start: %v", err)
		}
	}
	if n := p.fetched(); n != 1 {
		t.Errorf("fetched %d times for three tokens", n)
	}
	if _, err := v.User(hs256); err != nil {
		t.Errorf("away from the start, a token that does not need it: %v", err)
	}

	p.answer(http.StatusOK, good)
	if err := v.jwks.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.User(known); err != nil {
		t.Errorf("back: %v", err)
	}
	if _, err := v.User(unknown); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("back, an unknown key: %v", err)
	}

	p.answer(http.StatusServiceUnavailable, "")
	if err := v.jwks.refresh(t.Context()); err == nil || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("away again: %v", err)
	}
	if _, err := v.User(known); err != nil {
		t.Errorf("away again, a known key: %v", err)
	}
	if _, err := v.User(unknown); err != ErrUnavailable {
		t.Errorf("away again, an unknown key: %v", err)
	}
}

// Run asks at once, again soon while it fails, and then seldom.
func TestRunKeepsKeysFresh(t *testing.T) {
	t.Parallel()
	k := pairs()
	first, second := jwk(t, k.ed.Public(), "kid", "a"), jwk(t, &k.p256.PublicKey, "kid", "b")
	synctest.Test(t, func(t *testing.T) {
		p := &provider{t: t, status: http.StatusInternalServerError}
		v := newVerifier(t, func(c *Config) { c.Secret, c.JWKSURL = "", "https://login.example/jwks" })
		v.jwks.client = &http.Client{Transport: p}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); v.Run(ctx) }()
		has := func(kid string) bool {
			synctest.Wait()
			keys, _ := v.jwks.state()
			_, ok := keys[kid]
			return ok
		}

		time.Sleep(time.Minute)
		if n := p.fetched(); n < 10 || n > 30 {
			t.Errorf("asked %d times in a minute of failures", n)
		}
		p.publish(first)
		time.Sleep(6 * time.Second)
		if !has("a") {
			t.Error("6 s after it came back its key is unknown")
		}
		p.publish(second)
		before := p.fetched()
		time.Sleep(6 * time.Minute)
		if has("a") || !has("b") {
			t.Error("6 min after a change the keys are the old ones")
		}
		if n := p.fetched() - before; n > 2 {
			t.Errorf("asked %d times in 6 min", n)
		}
		cancel()
		<-ended
	})
	v := newVerifier(t, nil)
	v.Run(t.Context()) // without a JWKS there is nothing to wait for
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	k := pairs()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := jwk(t, &k.rsa.PublicKey, "kid", "good")
	for name, tc := range map[string]struct {
		body string
		want int    // keys
		err  string // "" means none
	}{
		"one key":                                {document(t, good), 1, ""},
		"no keys":                                {document(t), 0, ""},
		"a key without a kid":                    {document(t, jwk(t, k.ed.Public())), 1, ""},
		"two keys without a kid":                 {document(t, jwk(t, k.ed.Public()), jwk(t, &k.rsa.PublicKey)), 0, ""},
		"three keys with the same kid":           {document(t, good, good, good), 0, ""},
		"certificates that are none, ignored":    {document(t, jwk(t, &k.rsa.PublicKey, "x5t", "no", "x5u", "http://evil.example")), 1, ""},
		"an RSA key of 1024 bits, left out":      {document(t, good, jwk(t, &small.PublicKey, "kid", "small")), 1, ""},
		"an RSA key with exponent 1, left out":   {document(t, jwk(t, &k.rsa.PublicKey, "e", "AQ")), 0, ""},
		"a point off its curve, left out":        {document(t, jwk(t, &k.p256.PublicKey, "x", "AAAA")), 0, ""},
		"a key for encryption, left out":         {document(t, jwk(t, &k.rsa.PublicKey, "use", "enc")), 0, ""},
		"a key for another algorithm, left out":  {document(t, jwk(t, &k.rsa.PublicKey, "alg", "PS256")), 0, ""},
		"a key for an algorithm of secrets":      {document(t, jwk(t, &k.rsa.PublicKey, "alg", "HS256")), 0, ""},
		"a kind of key that is unknown":          {document(t, map[string]any{"kty": "new"}), 0, ""},
		"a symmetric key":                        {document(t, good, map[string]any{"kty": "oct", "k": "c2VjcmV0"}), 0, "key 2 of 2 is a symmetric key"},
		"a symmetric key in disguise":            {document(t, jwk(t, &k.rsa.PublicKey, "k", "c2VjcmV0")), 0, "is a symmetric key"},
		"a symmetric key in capitals":            {document(t, map[string]any{"kty": "OCT", "k": "c2VjcmV0"}), 0, "is a symmetric key"},
		"a private key":                          {document(t, jwk(t, &k.rsa.PublicKey, "d", "c2VjcmV0")), 0, "is a private key"},
		"a page":                                 {"<html>", 0, "not a JWKS"},
		"one JWK and no set":                     {`{"kty":"RSA"}`, 0, "not a JWKS"},
		"null":                                   {"null", 0, "not a JWKS"},
		"keys of the wrong shape":                {`{"keys":[7]}`, 0, "key 1 of 1 is no JWK"},
		"more than 256 KiB":                      {strings.Repeat(" ", maxJWKSBytes) + document(t, good), 0, "more than 262144 bytes"},
		"a set with white space around, as sent": {"\n " + document(t, good) + "\n", 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, err := parseKeys([]byte(tc.body))
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("got error %v, want %q", err, tc.err)
			}
			if len(keys) != tc.want {
				t.Errorf("got %d keys, want %d", len(keys), tc.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const url = "https://login.example/.well-known/jwks.json"
	for name, tc := range map[string]struct {
		cfg  Config
		want string // "" means good
	}{
		"nothing":                         {Config{}, "JWT_SECRET or JWKS_URL: at least one"},
		"issuer only":                     {Config{Issuer: "x"}, "JWT_SECRET or JWKS_URL: at least one"},
		"secret":                          {Config{Secret: secret}, ""},
		"short secret":                    {Config{Secret: "hush"}, "JWT_SECRET: must have at least 32 bytes, not 4"},
		"short secret beside a JWKS":      {Config{Secret: "hush", JWKSURL: url}, "JWT_SECRET: must have at least 32 bytes, not 4"},
		"JWKS":                            {Config{JWKSURL: url}, ""},
		"both":                            {Config{Secret: secret, JWKSURL: url}, ""},
		"JWKS by http":                    {Config{JWKSURL: "http://login.example/jwks"}, "JWKS_URL: must use https"},
		"JWKS by http on this machine":    {Config{JWKSURL: "http://127.0.0.1:9000/jwks"}, ""},
		"JWKS by http on localhost":       {Config{JWKSURL: "http://localhost/jwks"}, ""},
		"JWKS by http on ::1":             {Config{JWKSURL: "http://[::1]:80/jwks"}, ""},
		"JWKS by http on a name like it":  {Config{JWKSURL: "http://localhost.example/jwks"}, "JWKS_URL: must use https"},
		"JWKS by http on 127.evil":        {Config{JWKSURL: "http://127.0.0.1.evil.example/jwks"}, "JWKS_URL: must use https"},
		"JWKS in a file":                  {Config{JWKSURL: "file:///etc/jwks.json"}, "JWKS_URL: must be a URL"},
		"JWKS without a scheme":           {Config{JWKSURL: "login.example/jwks"}, "JWKS_URL: must be a URL"},
		"JWKS of a host without a name":   {Config{JWKSURL: "https://:443/jwks"}, "JWKS_URL: must be a URL"},
		"JWKS by a scheme that is none":   {Config{JWKSURL: "ftp://login.example/jwks"}, "JWKS_URL: must use https"},
		"JWKS with a password in the URL": {Config{JWKSURL: "https://u:hush@login.example/jwks"}, "JWKS_URL: must not hold a user"},
		"JWKS with a fragment":            {Config{JWKSURL: url + "#a"}, "JWKS_URL: must not hold a fragment"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(tc.cfg)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("quotes a secret: %v", err)
			}
		})
	}
}

// A redirect leads from https to https only, and from loopback to loopback.
func TestJWKSRedirects(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	to := p.url
	redirecting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, to, http.StatusFound)
	}))
	t.Cleanup(redirecting.Close)
	if keys, err := fetchKeys(t.Context(), newClient(), redirecting.URL); err != nil || len(keys) == 0 {
		t.Errorf("one redirect: %d keys, %v", len(keys), err)
	}
	for _, to = range []string{"http://login.example/jwks", redirecting.URL} {
		if _, err := fetchKeys(t.Context(), newClient(), redirecting.URL); err == nil || !strings.Contains(err.Error(), "redirect") {
			t.Errorf("redirected to %s: %v", to, err)
		}
	}
}

// FuzzToken: nothing panics, and nobody gets in with a token that we did not sign,
// whatever key it names.
func FuzzToken(f *testing.F) {
	p, k := newProvider(f), pairs()
	v := p.verifier(func(c *Config) { c.Secret = secret })
	if err := v.jwks.refresh(f.Context()); err != nil {
		f.Fatal(err)
	}
	v.jwks.unknown.AllowN(time.Now(), 1) // no fetching from here on
	for _, token := range []string{
		sign(f, jwt.SigningMethodRS256, k.foreign, map[string]any{"kid": "rs"}, with(nil)),
		sign(f, jwt.SigningMethodES256, k.p256, map[string]any{"kid": "es384"}, with(nil)),
		sign(f, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), map[string]any{"kid": "ed"}, with(nil)),
		sign(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, with(nil)),
		"..", "e30.e30.", "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.e30.AA",
	} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		user, err := v.verify(t.Context(), token)
		if err == nil {
			t.Fatalf("got in as %v", user)
		}
		if len(err.Error()) > 80 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}

// FuzzParseKeys: no JWKS panics, and what it gives are public keys that fit an algorithm.
func FuzzParseKeys(f *testing.F) {
	k := pairs()
	f.Add([]byte(document(f, jwk(f, &k.rsa.PublicKey, "kid", "a"), jwk(f, k.ed.Public(), "kid", "b"))))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, _ := parseKeys(body)
		for kid, key := range keys {
			ok := false
			for _, name := range jwksMethods {
				ok = ok || fits(jwt.GetSigningMethod(name), key.Key())
			}
			if !ok {
				t.Errorf("key %q fits nothing: %T", kid, key.Key())
			}
		}
	})
}
