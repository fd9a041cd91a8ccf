package signing

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// SeedBytes is the length of a key pair's seed: what is kept, sealed, of a pair.
const SeedBytes = ed25519.SeedSize

const publicPrefix = "whpk_"

// NewKeyPair returns a fresh ed25519 key pair, for signatures that a receiver
// verifies without a secret.
func NewKeyPair() ed25519.PrivateKey {
	var seed [SeedBytes]byte
	_, _ = rand.Read(seed[:]) // never fails: crypto/rand ends the process instead
	return ed25519.NewKeyFromSeed(seed[:])
}

// KeyPair returns the key pair of a seed, which is [SeedBytes] long and is what
// [ed25519.PrivateKey.Seed] returned.
func KeyPair(seed []byte) (ed25519.PrivateKey, error) {
	if len(seed) != SeedBytes {
		return nil, fmt.Errorf("seed: must be %d bytes, not %d", SeedBytes, len(seed))
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// PublicKey returns the text form of a pair's public key, as Standard Webhooks
// has it: "whpk_" and the base64 of its 32 bytes.
func PublicKey(key ed25519.PrivateKey) string {
	return PublicText(key.Public().(ed25519.PublicKey))
}

// PublicText returns the text form of a public key of which the 32 bytes are at hand.
func PublicText(public ed25519.PublicKey) string {
	return publicPrefix + base64.StdEncoding.EncodeToString(public)
}

// ParsePublicKey reads the text form of a public key.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	encoded, ok := strings.CutPrefix(text, publicPrefix)
	if !ok {
		return nil, errors.New("public key: must start with whpk_")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, errors.New("public key: must be the base64 of 32 bytes after whpk_")
	}
	return b, nil
}
