package endpoints

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/sql/pgtest"
)

const (
	issuer   = "https://login.example/"
	audience = "cardwire"
)

// A login is an identity provider that publishes the public halves of two keys,
// as "first" and "second".
type login struct {
	url           string
	first, second *rsa.PrivateKey
}

func newLogin(t testing.TB) *login {
	t.Helper()
	var keys []map[string]string
	make := func(kid string) *rsa.PrivateKey {
		t.Helper()
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, map[string]string{
			"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		})
		return key
	}
	l := &login{first: make("first"), second: make("second")}
	set, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }))
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

// claimed are the claims of a token that is taken, changed; nil takes one away.
func claimed(change map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{"id": alice.String(), "exp": time.Now().Add(time.Hour).Unix(), "iss": issuer, "aud": audience}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func signed(t testing.TB, method jwt.SigningMethod, key any, header, change map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claimed(change))
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestBadTokens sends tokens that prove nothing: each is answered 401 and no
// more, before the body is read, and nothing changes.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	l := newLogin(t)
	s := serverSet(t, pgtest.New(t), func(c *Config) { c.JWKSURL, c.JWTIssuer, c.JWTAudience = l.url, issuer, audience })
	var (
		first  = map[string]any{"kid": "first"}
		secret = []byte(jwtSecret)
		hs     = func(change map[string]any) string {
			return signed(t, jwt.SigningMethodHS256, secret, nil, change)
		}
		rs = func(header, change map[string]any) string {
			return signed(t, jwt.SigningMethodRS256, l.first, header, change)
		}
		good     = hs(nil)
		parts    = strings.Split(good, ".")
		encode   = base64.RawURLEncoding.EncodeToString
		foreign  = newLogin(t)
		later    = time.Now().Add(time.Hour).Unix()
		earlier  = time.Now().Add(-time.Hour).Unix()
		_, ed, _ = ed25519.GenerateKey(nil)
		spki, _  = x509.MarshalPKIXPublicKey(&l.first.PublicKey)
		public   = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
		edJWK    = map[string]any{"kty": "OKP", "crv": "Ed25519", "x": encode(ed.Public().(ed25519.PublicKey))}
	)
	header := func(text string) string { return encode([]byte(text)) + "." + parts[1] + "." + parts[2] }

	send := func(headers ...string) answer {
		r := httptest.NewRequest("POST", "/api/webhooks", unread{t})
		for i := 0; i < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		return s.send(r)
	}
	contents := s.watch(t)
	before := contents()
	refuse := func(name string, headers ...string) {
		t.Run(name, func(t *testing.T) {
			a := send(headers...)
			if a.status != 401 || a.sentence(t) != "Unauthorized" || a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Fatalf("%d %v %s", a.status, a.header, a.body)
			}
			checkProblem(t, a)
			if after := contents(); after != before {
				t.Errorf("changed the database:\n%s\nwas\n%s", after, before)
			}
			if logs := s.logs.String(); strings.Contains(logs, `"level":"error"`) {
				t.Errorf("logged %s", logs)
			}
		})
	}

	// Or else the rows show nothing: what they change is what is wrong with them.
	for name, token := range map[string]string{
		"HS256": good, "RS256": rs(first, nil), "the second key": signed(t, jwt.SigningMethodRS256, l.second, map[string]any{"kid": "second"}, nil),
		"one audience of two": hs(map[string]any{"aud": []string{"other", audience}}), "sub in place of id": hs(map[string]any{"id": nil, "sub": alice.String()}),
		"an expiry within the leeway": hs(map[string]any{"exp": time.Now().Add(-10 * time.Second).Unix()}),
	} {
		r := httptest.NewRequest("GET", "/api/webhooks", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if a := s.send(r); a.status != 200 {
			t.Fatalf("%s: %d %s", name, a.status, a.body)
		}
	}

	for name, token := range map[string]string{
		"alg none is refused":                                         signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, nil),
		"alg none with the kid of a key is refused":                   signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, first, nil),
		"alg None is refused":                                         encode([]byte(`{"alg":"None","typ":"JWT"}`)) + "." + parts[1] + ".",
		"alg NONE is refused":                                         encode([]byte(`{"alg":"NONE","typ":"JWT"}`)) + "." + parts[1] + ".",
		"alg none with a good signature is refused":                   header(`{"alg":"none","typ":"JWT"}`),
		"no alg is refused":                                           header(`{"typ":"JWT"}`),
		"an empty alg is refused":                                     header(`{"alg":"","typ":"JWT"}`),
		"alg as an array is refused":                                  header(`{"alg":["HS256"],"typ":"JWT"}`),
		"alg in small letters is refused":                             header(`{"alg":"hs256","typ":"JWT"}`),
		"a signature cut off is refused":                              parts[0] + "." + parts[1] + "." + parts[2][:20],
		"no signature is refused":                                     parts[0] + "." + parts[1] + ".",
		"a signature of other claims is refused":                      parts[0] + "." + encode([]byte(`{"id":"`+bob.String()+`","exp":9999999999,"iss":"`+issuer+`","aud":"`+audience+`"}`)) + "." + parts[2],
		"HS512 by our secret is refused":                              signed(t, jwt.SigningMethodHS512, secret, nil, nil),
		"HS384 by our secret is refused":                              signed(t, jwt.SigningMethodHS384, secret, nil, nil),
		"HS256 by another secret is refused":                          signed(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), nil, nil),
		"HS256 by an empty secret is refused":                         signed(t, jwt.SigningMethodHS256, []byte{}, nil, nil),
		"HS256 by the public key as PEM is refused":                   signed(t, jwt.SigningMethodHS256, public, first, nil),
		"HS256 by the public key as DER is refused":                   signed(t, jwt.SigningMethodHS256, spki, first, nil),
		"HS256 by the modulus is refused":                             signed(t, jwt.SigningMethodHS256, l.first.N.Bytes(), first, nil),
		"HS256 by the published text of the modulus is refused":       signed(t, jwt.SigningMethodHS256, []byte(encode(l.first.N.Bytes())), first, nil),
		"RS256 by a foreign key under our kid is refused":             signed(t, jwt.SigningMethodRS256, foreign.first, first, nil),
		"RS256 by one key under the other's kid is refused":           rs(map[string]any{"kid": "second"}, nil),
		"RS512 by a key for RS256 is refused":                         signed(t, jwt.SigningMethodRS512, l.first, first, nil),
		"PS256 by a key for RS256 is refused":                         signed(t, jwt.SigningMethodPS256, l.first, first, nil),
		"EdDSA under the kid of an RSA key is refused":                signed(t, jwt.SigningMethodEdDSA, crypto.Signer(ed), first, nil),
		"a key that the token brings along is refused":                signed(t, jwt.SigningMethodEdDSA, crypto.Signer(ed), map[string]any{"jwk": edJWK, "kid": "mine"}, nil),
		"a key set that the token points to is refused":               signed(t, jwt.SigningMethodRS256, foreign.first, map[string]any{"jku": foreign.url, "kid": "mine"}, nil),
		"a certificate that the token points to is refused":           signed(t, jwt.SigningMethodRS256, foreign.first, map[string]any{"x5u": foreign.url, "kid": "first"}, nil),
		"a certificate that the token brings along is refused":        signed(t, jwt.SigningMethodRS256, foreign.first, map[string]any{"x5c": []string{base64.StdEncoding.EncodeToString(spki)}, "kid": "first"}, nil),
		"a critical extension is refused":                             signed(t, jwt.SigningMethodHS256, secret, map[string]any{"crit": []string{"b64"}, "b64": false}, nil),
		"no kid where there are two keys is refused":                  rs(nil, nil),
		"a kid that nobody knows is refused":                          rs(map[string]any{"kid": "third"}, nil),
		"an empty kid is refused":                                     rs(map[string]any{"kid": ""}, nil),
		"a kid in other letters is refused":                           rs(map[string]any{"kid": "First"}, nil),
		"a kid that is a number is refused":                           rs(map[string]any{"kid": 1}, nil),
		"a kid that is an array is refused":                           rs(map[string]any{"kid": []string{"first"}}, nil),
		"a kid that is a path is refused":                             rs(map[string]any{"kid": "../../../../dev/null"}, nil),
		"a kid that is a URL is refused":                              signed(t, jwt.SigningMethodRS256, foreign.first, map[string]any{"kid": foreign.url}, nil),
		"a kid that is SQL is refused":                                rs(map[string]any{"kid": "' UNION SELECT 'x' --"}, nil),
		"a kid with a NUL is refused":                                 rs(map[string]any{"kid": "first\x00"}, nil),
		"a kid of 4,000 characters is refused":                        rs(map[string]any{"kid": strings.Repeat("k", 4000)}, nil),
		"an expired token is refused":                                 hs(map[string]any{"exp": earlier}),
		"a token that expired beyond the leeway is refused":           hs(map[string]any{"exp": time.Now().Add(-2 * time.Minute).Unix()}),
		"an expired token of the provider is refused":                 rs(first, map[string]any{"exp": earlier}),
		"no expiry is refused":                                        hs(map[string]any{"exp": nil}),
		"no expiry in a token of the provider is refused":             rs(first, map[string]any{"exp": nil}),
		"an expiry in words is refused":                               hs(map[string]any{"exp": "never"}),
		"an expiry of 0 is refused":                                   hs(map[string]any{"exp": 0}),
		"a negative expiry is refused":                                hs(map[string]any{"exp": -1}),
		"an expiry that is an array is refused":                       hs(map[string]any{"exp": []int64{later}}),
		"a token that is not valid yet is refused":                    hs(map[string]any{"nbf": later}),
		"a token of the future is refused":                            hs(map[string]any{"iat": later}),
		"a token of the provider that is not valid yet is refused":    rs(first, map[string]any{"nbf": later}),
		"another audience is refused":                                 hs(map[string]any{"aud": "billing"}),
		"another audience in a token of the provider is refused":      rs(first, map[string]any{"aud": "billing"}),
		"other audiences are refused":                                 hs(map[string]any{"aud": []string{"billing", "cards"}}),
		"no audience is refused":                                      hs(map[string]any{"aud": nil}),
		"an empty audience is refused":                                hs(map[string]any{"aud": ""}),
		"an empty list of audiences is refused":                       hs(map[string]any{"aud": []string{}}),
		"an audience in other letters is refused":                     hs(map[string]any{"aud": "Cardwire"}),
		"an audience that begins with ours is refused":                hs(map[string]any{"aud": audience + ".evil.example"}),
		"an audience that is a number is refused":                     hs(map[string]any{"aud": 1}),
		"an audience that is an object is refused":                    hs(map[string]any{"aud": map[string]any{audience: true}}),
		"another issuer is refused":                                   hs(map[string]any{"iss": "https://login.evil.example/"}),
		"an issuer that begins with ours is refused":                  hs(map[string]any{"iss": issuer + "tenant"}),
		"an issuer without its slash is refused":                      hs(map[string]any{"iss": strings.TrimSuffix(issuer, "/")}),
		"no issuer is refused":                                        hs(map[string]any{"iss": nil}),
		"neither id nor sub is refused":                               hs(map[string]any{"id": nil}),
		"an empty id is not saved by sub":                             hs(map[string]any{"id": "", "sub": alice.String()}),
		"an id that is a name is refused":                             hs(map[string]any{"id": "alice"}),
		"an id that is a number is refused":                           hs(map[string]any{"id": 1}),
		"an id that is an array is refused":                           hs(map[string]any{"id": []string{alice.String()}}),
		"an id of zeros is refused":                                   hs(map[string]any{"id": uuid.Nil.String()}),
		"an id in braces is refused":                                  hs(map[string]any{"id": "{" + alice.String() + "}"}),
		"an id as a URN is refused":                                   hs(map[string]any{"id": "urn:uuid:" + alice.String()}),
		"an id of 32 digits is refused":                               hs(map[string]any{"id": strings.ReplaceAll(alice.String(), "-", "")}),
		"an id with a space is refused":                               hs(map[string]any{"id": alice.String() + " "}),
		"claims that are an array are refused":                        parts[0] + "." + encode([]byte("[]")) + "." + parts[2],
		"claims that are null are refused":                            parts[0] + "." + encode([]byte("null")) + "." + parts[2],
		"a header that is no JSON is refused":                         header("{"),
		"a header that is an array is refused":                        header("[]"),
		"two parts are refused":                                       parts[0] + "." + parts[1],
		"four parts are refused":                                      good + ".x",
		"five parts, as of an encrypted token, are refused":           good + ".x.y",
		"dots alone are refused":                                      "..",
		"eight thousand dots are refused":                             strings.Repeat(".", 8000),
		"padding is refused":                                          good + "=",
		"the standard alphabet is refused":                            parts[0] + "." + parts[1] + "." + strings.Repeat("+/", 20),
		"a space inside is refused":                                   parts[0] + ". " + parts[1] + "." + parts[2],
		"a token twice is refused":                                    good + " " + good,
		"two tokens with a comma are refused":                         good + ", " + good,
		"a good token of more than 8 KiB is refused":                  hs(map[string]any{"pad": strings.Repeat("a", 8<<10)}),
		"a token of 1 MB is refused":                                  strings.Repeat("a", 1<<20),
		"a token that is the secret is refused":                       jwtSecret,
		"a word is refused":                                           "token",
		"a NUL is refused":                                            "\x00",
		"bytes that are not UTF-8 are refused":                        "\xff\xfe",
		"nothing is refused":                                          "",
		"a good token with a letter changed in its claims is refused": parts[0] + "." + "f" + parts[1][1:] + "." + parts[2],
	} {
		refuse(name, "Authorization", "Bearer "+token)
		refuse(name+" in a cookie", "Cookie", "token="+token)
	}
	for name, headers := range map[string][]string{
		"two Authorization headers are refused":              {"Authorization", "Bearer " + good, "Authorization", "Bearer " + good},
		"a good and a bad Authorization are refused":         {"Authorization", "Bearer " + good, "Authorization", "Bearer x"},
		"a bearer and a Basic Authorization are refused":     {"Authorization", "Bearer " + good, "Authorization", "Basic YWxpY2U6eA=="},
		"Basic is refused":                                   {"Authorization", "Basic YWxpY2U6eA=="},
		"Basic with a token as password is refused":          {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:"+good))},
		"Digest is refused":                                  {"Authorization", `Digest username="alice"`},
		"the scheme Token is refused":                        {"Authorization", "Token " + good},
		"no scheme is refused":                               {"Authorization", good},
		"the scheme alone is refused":                        {"Authorization", "Bearer"},
		"a tab after the scheme is refused":                  {"Authorization", "Bearer\t" + good},
		"a colon after the scheme is refused":                {"Authorization", "Bearer: " + good},
		"an empty Authorization is refused":                  {"Authorization", ""},
		"an empty bearer is not saved by a good cookie":      {"Authorization", "Bearer ", "Cookie", "token=" + good},
		"a token in another header is refused":               {"X-Authorization", "Bearer " + good},
		"a token for the proxy is refused":                   {"Proxy-Authorization", "Bearer " + good},
		"a user named in a header is refused":                {"X-User-Id", alice.String()},
		"a token in another cookie is refused":               {"Cookie", "session=" + good},
		"a token in a cookie in other letters is refused":    {"Cookie", "Token=" + good},
		"a bad cookie before a good one is refused":          {"Cookie", "token=x; token=" + good},
		"no header at all is refused":                        nil,
		"an API key that we never gave is refused":           {"X-Api-Key", good},
		"a token named in an upgrade of a socket is refused": {"Sec-WebSocket-Protocol", "bearer, " + good},
	} {
		refuse(name, headers...)
	}
	t.Run("a token in the query is refused", func(t *testing.T) {
		for _, name := range []string{"token", "access_token", "jwt", "api_key"} {
			if a := s.send(httptest.NewRequest("GET", "/api/webhooks?"+name+"="+good, nil)); a.status != 401 {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
	})
}
