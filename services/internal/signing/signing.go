// Package signing signs what the deliverer POSTs, and verifies it as a
// receiver would. It is pure: no clock, no state, no I/O.
//
// A secret, in this package, is the HMAC key itself. Ours are the 64
// characters that [NewSecret] returns; a receiver keeps either those characters
// (for X-DevCard-Signature) or their [Whsec] form (for any Standard Webhooks
// library), and both stand for the same 64 bytes. A key is an ed25519 private
// key, of which the receiver has the public half alone.
package signing

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// The four headers, in the canonical form of net/http (names are
// case-insensitive on the wire).
const (
	HeaderID        = "Webhook-Id"          // the event's id, the same on every attempt and replay
	HeaderTimestamp = "Webhook-Timestamp"   // Unix seconds of this attempt
	HeaderSignature = "Webhook-Signature"   // "v1,<base64>" per active secret, then "v1a,<base64>" per active key, separated by a space
	HeaderDevCard   = "X-Devcard-Signature" // "sha256=<hex>", by the newest secret alone
)

const (
	v1Prefix      = "v1,"
	v1aPrefix     = "v1a,"
	devCardPrefix = "sha256="
	v1Len         = len(v1Prefix) + (sha256.Size+2)/3*4
	v1aLen        = len(v1aPrefix) + (ed25519.SignatureSize+2)/3*4
)

// roomForOthers is how many headers the caller is expected to add (content type,
// user agent and the like). Eight entries in all still make a small map, in one
// piece; a wrong guess costs an allocation and nothing else.
const roomForOthers = 4

// NewSecret returns a fresh secret: 32 random bytes as 64 lowercase hex
// characters.
func NewSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

// Whsec returns the form of secret that Standard Webhooks libraries take:
// "whsec_" and the base64 of the secret's characters.
func Whsec(secret string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(secret))
}

// Headers returns the signature headers of one attempt, in a map of their own
// to which the caller may add. The signatures cover exactly these bytes of body.
//
//   - id is the event's id. It must contain no dot, because the signed text is
//     id, dot, timestamp, dot, body; a UUID never does.
//   - at is the time of this attempt, sent in whole seconds.
//   - secrets are the active ones, newest first: one, or two while a rotated
//     secret is still in its overlap. Having none is an error, since nothing
//     may leave unsigned.
//   - keys are the active private keys, newest first; most endpoints have none.
//
// Webhook-Signature carries one signature per active secret and one per active
// key, so a receiver with any of them verifies during a rotation. X-DevCard-Signature has a single
// value, as has the header of GitHub's whose shape it has: receivers compare the
// whole value, so a list would fail with either secret. It is made with the newest
// secret, the one that the integrator was just handed and will test with. A
// receiver that uses only this header must therefore take the new secret when it
// rotates; one that needs the overlap uses Webhook-Signature.
func Headers(id string, at time.Time, body []byte, secrets []string, keys ...ed25519.PrivateKey) (http.Header, error) {
	if len(secrets) == 0 {
		return nil, errors.New("sign: no active secret")
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	prefix := signedPrefix(id, timestamp)

	var sum [sha256.Size]byte
	signatures := make([]byte, 0, len(secrets)*(v1Len+1)+len(keys)*(v1aLen+1))
	var devCard string
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(prefix)
		mac.Write(body)
		if i > 0 {
			signatures = append(signatures, ' ')
		}
		signatures = append(signatures, v1Prefix...)
		signatures = base64.StdEncoding.AppendEncode(signatures, mac.Sum(sum[:0]))
		if i == 0 {
			mac.Reset()
			mac.Write(body)
			devCard = devCardPrefix + hex.EncodeToString(mac.Sum(sum[:0]))
		}
	}

	if len(keys) > 0 {
		signed := append(prefix, body...) // ed25519 wants it in one piece
		for _, key := range keys {
			signatures = append(signatures, ' ')
			signatures = append(signatures, v1aPrefix...)
			signatures = base64.StdEncoding.AppendEncode(signatures, ed25519.Sign(key, signed))
		}
	}

	// One backing array for the four one-element values; the caps keep an Add
	// of the caller's from running into the next value.
	values := [...]string{id, timestamp, string(signatures), devCard}
	h := make(http.Header, len(values)+roomForOthers)
	h[HeaderID] = values[0:1:1]
	h[HeaderTimestamp] = values[1:2:2]
	h[HeaderSignature] = values[2:3:3]
	h[HeaderDevCard] = values[3:4:4]
	return h, nil
}

// signedPrefix returns what stands before the body in the signed text of
// Standard Webhooks.
func signedPrefix(id, timestamp string) []byte {
	b := make([]byte, 0, len(id)+len(timestamp)+2)
	b = append(b, id...)
	b = append(b, '.')
	b = append(b, timestamp...)
	return append(b, '.')
}
