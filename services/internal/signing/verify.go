package signing

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Tolerance is how far a timestamp may lie from the receiver's clock in either
// direction: five minutes, as Standard Webhooks recommends.
const Tolerance = 5 * time.Minute

// Verify reports whether a POST is ours: both signatures hold over exactly these
// bytes of body, and the timestamp is within tolerance of now. It is what a
// receiver that has all active secrets would do; the one that has only an older
// secret calls [VerifyStandard]. The error says which rule failed and quotes
// nothing of the request.
func Verify(h http.Header, body []byte, secrets []string, now time.Time, tolerance time.Duration) error {
	if err := VerifyStandard(h, body, secrets, now, tolerance); err != nil {
		return err
	}
	return VerifyDevCard(h, body, secrets)
}

// VerifyStandard checks the Standard Webhooks headers alone: one of the v1
// signatures is by one of the secrets, and the timestamp is within tolerance of
// now, both ends included. Signatures of other versions are skipped.
func VerifyStandard(h http.Header, body []byte, secrets []string, now time.Time, tolerance time.Duration) error {
	prefix, signatures, err := standard(h, now, tolerance)
	if err != nil {
		return err
	}
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(prefix)
		mac.Write(body)
		want := base64.StdEncoding.AppendEncode(nil, mac.Sum(nil))
		for item := range strings.SplitSeq(signatures, " ") {
			got, ok := strings.CutPrefix(item, v1Prefix)
			if ok && hmac.Equal([]byte(got), want) {
				return nil
			}
		}
	}
	return errors.New("verify: webhook-signature holds no signature by a known secret")
}

// VerifyPublic checks the Standard Webhooks headers as [VerifyStandard] does, but
// for a v1a signature by one of the public keys.
func VerifyPublic(h http.Header, body []byte, keys []ed25519.PublicKey, now time.Time, tolerance time.Duration) error {
	prefix, signatures, err := standard(h, now, tolerance)
	if err != nil {
		return err
	}
	signed := append(prefix, body...)
	for item := range strings.SplitSeq(signatures, " ") {
		encoded, ok := strings.CutPrefix(item, v1aPrefix)
		if !ok {
			continue
		}
		signature, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil {
			continue
		}
		for _, key := range keys {
			if len(key) == ed25519.PublicKeySize && ed25519.Verify(key, signed, signature) {
				return nil
			}
		}
	}
	return errors.New("verify: webhook-signature holds no signature by a known key")
}

// standard returns what stands before the body in the signed text, and the list
// of signatures, once all three headers are there and the timestamp is fresh.
func standard(h http.Header, now time.Time, tolerance time.Duration) (prefix []byte, signatures string, err error) {
	id, timestamp := h.Get(HeaderID), h.Get(HeaderTimestamp)
	signatures = h.Get(HeaderSignature)
	if id == "" || timestamp == "" || signatures == "" {
		return nil, "", errors.New("verify: webhook-id, webhook-timestamp or webhook-signature is missing")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return nil, "", errors.New("verify: webhook-timestamp is not a number of seconds")
	}
	at := time.Unix(seconds, 0)
	if at.Before(now.Add(-tolerance)) || at.After(now.Add(tolerance)) {
		return nil, "", fmt.Errorf("verify: webhook-timestamp is more than %v away", tolerance)
	}
	return signedPrefix(id, timestamp), signatures, nil
}

// VerifyDevCard checks X-DevCard-Signature alone: it is by one of the secrets.
// It covers the body and nothing else, so it does not notice a replayed POST.
func VerifyDevCard(h http.Header, body []byte, secrets []string) error {
	got, ok := strings.CutPrefix(h.Get(HeaderDevCard), devCardPrefix)
	if !ok {
		return errors.New("verify: x-devcard-signature is missing or not of the form sha256=<hex>")
	}
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		if hmac.Equal([]byte(got), []byte(hex.EncodeToString(mac.Sum(nil)))) {
			return nil
		}
	}
	return errors.New("verify: x-devcard-signature is not by a known secret")
}
