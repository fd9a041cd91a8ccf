// Package secrets encrypts what must not lie readable in PostgreSQL: the signing
// secrets of endpoints, and answers that hold one. It uses Tink's AEAD (AES256-GCM).
package secrets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Overhead is how many bytes a ciphertext is longer than its plaintext: Tink's
// prefix with the key's id (5), the nonce (12) and the tag (16).
const Overhead = 33

// prefixBytes is the length of Tink's prefix: a 1, and the key's id in big endian.
const prefixBytes = 5

// Seal encrypts something of one row with the primary key. The id is the
// associated data, the endpoint's for its secrets and [AnswerID] for an answer:
// only [Keyset.Open] with the same id opens the result, so a ciphertext that is
// moved to another row is worth nothing there. Two seals of the same secret differ.
func (k *Keyset) Seal(id uuid.UUID, plaintext []byte) ([]byte, error) {
	ciphertext, err := k.aead.Encrypt(plaintext, id[:])
	if err != nil {
		return nil, fmt.Errorf("seal what belongs to %v: %w", id, err)
	}
	return ciphertext, nil
}

// Open decrypts what [Keyset.Seal] made, with whichever key of the keyset made
// it. The error is a [*MissingKeyError] if the keyset does not have that key;
// otherwise the id is another one, or the bytes were changed, and it does not tell which.
func (k *Keyset) Open(id uuid.UUID, ciphertext []byte) ([]byte, error) {
	plaintext, err := k.aead.Decrypt(ciphertext, id[:])
	if err == nil {
		return plaintext, nil
	}
	err = errNotOurs
	if key, ok := KeyID(ciphertext); ok && !k.Holds(key) {
		err = &MissingKeyError{KeyID: key, Has: k.ids}
	}
	return nil, fmt.Errorf("open what belongs to %v: %w", id, err)
}

var errNotOurs = errors.New("its key is there, but it was sealed for another row, or changed since")

// A MissingKeyError is what was sealed with a key that the keyset does not have.
type MissingKeyError struct {
	KeyID uint32
	Has   []uint32 // the ids of the keys that the keyset has
}

// Error says which key is missing and what to do.
func (e *MissingKeyError) Error() string {
	has := make([]string, len(e.Has))
	for i, id := range e.Has {
		has[i] = fmt.Sprint(id)
	}
	return fmt.Sprintf("sealed with key %d, which ENCRYPTION_KEYSET does not have (it has %s): "+
		"go back to a keyset that has it, and run cardwire keys rotate before keys prune", e.KeyID, strings.Join(has, ", "))
}

// KeyID returns the id of the key that sealed a ciphertext; ok is false if it is
// none of ours.
func KeyID(ciphertext []byte) (id uint32, ok bool) {
	if len(ciphertext) < prefixBytes || ciphertext[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(ciphertext[1:]), true
}

// Prefix returns what every ciphertext of the primary key begins with, and no other.
func (k *Keyset) Prefix() []byte {
	return binary.BigEndian.AppendUint32([]byte{1}, k.primary)
}

// AnswerID stands for the row of idempotency_keys that belongs to a user and a
// key: what its answer is sealed with, where a secret is sealed with its
// endpoint's id. It is the version 5 UUID of the key in the user's name space, so
// an answer that is moved to another user or key does not open there.
func AnswerID(user uuid.UUID, key string) uuid.UUID {
	return uuid.NewSHA1(user, []byte(key))
}
