// Package secrets encrypts what must not lie readable in PostgreSQL: the signing
// secrets of endpoints. It uses Tink's AEAD (AES256-GCM).
package secrets

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Overhead is how many bytes a ciphertext is longer than its plaintext: Tink's
// prefix with the key's id (5), the nonce (12) and the tag (16).
const Overhead = 33

// Seal encrypts a secret of one endpoint with the primary key. The endpoint's id
// is the associated data: only [Keyset.Open] with the same id opens the result, so
// a ciphertext that is moved to another row is worth nothing there. Two seals of
// the same secret differ.
func (k *Keyset) Seal(endpointID uuid.UUID, plaintext []byte) ([]byte, error) {
	ciphertext, err := k.aead.Encrypt(plaintext, endpointID[:])
	if err != nil {
		return nil, fmt.Errorf("seal the secret of endpoint %v: %w", endpointID, err)
	}
	return ciphertext, nil
}

// Open decrypts what [Keyset.Seal] made, with whichever key of the keyset made
// it. It fails, without telling which, when the key is not in the keyset, the
// endpoint is another one, or the bytes were changed.
func (k *Keyset) Open(endpointID uuid.UUID, ciphertext []byte) ([]byte, error) {
	plaintext, err := k.aead.Decrypt(ciphertext, endpointID[:])
	if err != nil {
		return nil, fmt.Errorf("open the secret of endpoint %v: %w", endpointID, errNotOurs)
	}
	return plaintext, nil
}

// AnswerID stands for the row of idempotency_keys that belongs to a user and a
// key: what its answer is sealed with, where a secret is sealed with its
// endpoint's id. It is the version 5 UUID of the key in the user's name space, so
// an answer that is moved to another user or key does not open there.
func AnswerID(user uuid.UUID, key string) uuid.UUID {
	return uuid.NewSHA1(user, []byte(key))
}

var errNotOurs = errors.New("no key of the keyset opens it for this endpoint")
