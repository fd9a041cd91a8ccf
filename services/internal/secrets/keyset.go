package secrets

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// A Keyset holds the keys that encrypt secrets at rest: one primary, which
// seals, and any number of others, which still open what they sealed before.
// It is safe for concurrent use.
type Keyset struct {
	aead    tink.AEAD
	primary uint32
	ids     []uint32 // of the enabled keys, in the keyset's order
}

// Primary returns the id of the key that seals.
func (k *Keyset) Primary() uint32 { return k.primary }

// Holds says whether the keyset opens what the key of that id sealed.
func (k *Keyset) Holds(id uint32) bool { return slices.Contains(k.ids, id) }

// NewKeyset returns a fresh keyset of one random AES256-GCM key, in the form that
// [ParseKeyset] reads: base64, one line. Whoever has it can open every secret.
func NewKeyset() (string, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", fmt.Errorf("make a keyset: %w", err)
	}
	return write(handle)
}

func write(handle *keyset.Handle) (string, error) {
	var b bytes.Buffer
	// Cleartext on purpose, see ParseKeyset.
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b)); err != nil {
		return "", fmt.Errorf("serialize a keyset: %w", err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// ParseKeyset reads a keyset as it stands in ENCRYPTION_KEYSET: the JSON that
// Tink and its tool tinkey write, or the base64 of that JSON, which survives
// environment files without quoting. Every enabled key must be AES256-GCM with
// Tink's prefix: the prefix is what puts the key's id into each ciphertext, and
// rotation finds the ones still under an old key by it. Errors name the rule that
// failed and never quote the keyset, nor what the parser says about it.
//
// The keyset is cleartext: it comes from the environment, where the operator's
// secret store puts it, and whoever reads our environment also reads
// JWT_SECRET and the database's password. Wrapping it with a master key would only
// move the question to that key; a KMS can be added where this function is called.
func ParseKeyset(serialized string) (*Keyset, error) {
	handle, err := read(serialized)
	if err != nil {
		return nil, err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, errors.New("keyset: no AEAD can be made of it")
	}
	k := &Keyset{aead: primitive}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil || entry.KeyStatus() != keyset.Enabled {
			continue
		}
		k.ids = append(k.ids, entry.KeyID())
		if entry.IsPrimary() {
			k.primary = entry.KeyID()
		}
	}
	return k, nil
}

// read is ParseKeyset up to the keys.
func read(serialized string) (*keyset.Handle, error) {
	s := strings.TrimSpace(serialized)
	if s == "" {
		return nil, errors.New("keyset: empty")
	}
	if !strings.HasPrefix(s, "{") {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, errors.New("keyset: neither JSON nor base64")
		}
		s = string(b)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(s)))
	if err != nil {
		return nil, errors.New("keyset: not a Tink keyset in JSON, or one without a usable primary key")
	}
	if err := checkKeys(handle); err != nil {
		return nil, err
	}
	return handle, nil
}

// checkKeys holds every enabled key against the one kind that we use.
func checkKeys(handle *keyset.Handle) error {
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return fmt.Errorf("keyset: key %d of %d is unreadable", i+1, handle.Len())
		}
		if entry.KeyStatus() != keyset.Enabled {
			continue
		}
		p, ok := entry.Key().Parameters().(*aesgcm.Parameters)
		if !ok || p.KeySizeInBytes() != 32 || p.Variant() != aesgcm.VariantTink {
			return fmt.Errorf("keyset: key %d of %d is not AES256-GCM with Tink's prefix", i+1, handle.Len())
		}
	}
	return nil
}
