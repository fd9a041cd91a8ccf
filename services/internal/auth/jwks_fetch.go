package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/MicahParks/jwkset"
)

const (
	maxJWKSBytes = 256 << 10 // a key with a chain of certificates has 8 KB at most
	maxRedirects = 3
	minRSABits   = 2048    // RFC 7518, section 3.3
	maxRSABits   = 8192    // beyond, verifying a stranger's token costs milliseconds
	maxExponent  = 1 << 31 // what crypto/rsa takes
)

// checkURL says what is wrong with the URL of a JWKS, without quoting it. Who can
// change the answer on its way can sign as anybody: hence https.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return errors.New("must be a URL such as https://login.example/.well-known/jwks.json")
	case u.User != nil:
		return errors.New("must not hold a user or password")
	case u.Fragment != "":
		return errors.New("must not hold a fragment (#…)")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return errors.New("must use https, unless it is on loopback")
	}
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// newClient makes a client that follows few redirects, to https only. Minutes
// pass between fetches, so it keeps no connection.
func newClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	return &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if err := checkURL(r.URL.String()); err != nil {
			return fmt.Errorf("redirect: %w", err)
		}
		return nil
	}}
}

// fetchKeys gets a JWKS and returns its keys by kid.
func fetchKeys(ctx context.Context, client *http.Client, from string) (map[string]jwkset.JWK, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(req)
	if err != nil {
		var inner *url.Error // which quotes the URL
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d instead of 200", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKSBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	return parseKeys(body)
}

// parseKeys returns the keys of a JWKS by kid, which a single key may be
// without. Keys that are not for signatures of jwksMethods are left out, and so
// are all that share a kid, since the kid does not say which is meant. A set that
// holds a secret (a symmetric key, or the private half of a pair) is refused
// whole: whoever published that does not know what they publish.
func parseKeys(body []byte) (map[string]jwkset.JWK, error) {
	if len(body) > maxJWKSBytes {
		return nil, fmt.Errorf("more than %d bytes", maxJWKSBytes)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, errors.New("not a JWKS: no JSON object with a list of keys")
	}
	keys := make(map[string]jwkset.JWK)
	seen := make(map[string]int)
	for i, raw := range set.Keys {
		var m jwkset.JWKMarshal
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("key %d of %d is no JWK", i+1, len(set.Keys))
		}
		switch {
		case strings.EqualFold(string(m.KTY), string(jwkset.KtyOct)) || m.K != "":
			return nil, fmt.Errorf("key %d of %d is a symmetric key: a JWKS is public, it must hold public keys only", i+1, len(set.Keys))
		case m.D != "" || m.P != "" || m.Q != "":
			return nil, fmt.Errorf("key %d of %d is a private key: a JWKS is public, it must hold public keys only", i+1, len(set.Keys))
		}
		key, ok := usable(m)
		if !ok {
			continue
		}
		if seen[m.KID]++; seen[m.KID] > 1 {
			delete(keys, m.KID)
			continue
		}
		keys[m.KID] = key
	}
	return keys, nil
}

// usable returns the public key, if it verifies signatures of jwksMethods.
func usable(m jwkset.JWKMarshal) (key jwkset.JWK, ok bool) {
	if m.USE != "" && m.USE != jwkset.UseSig {
		return key, false
	}
	if len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return key, false
	}
	if m.ALG != "" && !slices.Contains(jwksMethods, string(m.ALG)) {
		return key, false
	}
	// Certificates say nothing to us: it is https that vouches for the keys.
	m.X5U, m.X5C, m.X5T, m.X5TS256 = "", nil, "", ""
	key, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key, false
	}
	switch k := key.Key().(type) {
	case *rsa.PublicKey:
		return key, k.N.BitLen() >= minRSABits && k.N.BitLen() <= maxRSABits && k.E >= 3 && k.E < maxExponent && k.E%2 == 1
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return key, true
	default:
		return key, false
	}
}

// kids lists the names of keys in order, each cut to a length that suits a log.
func kids(keys map[string]jwkset.JWK) []string {
	names := slices.Sorted(maps.Keys(keys))
	for i, name := range names {
		names[i] = name[:min(len(name), 64)]
	}
	return names
}
