package secrets

import (
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// Rotation goes AddKey, PromoteKey, re-sealing of all rows (package reseal),
// PruneKeys. Each returns the next ENCRYPTION_KEYSET, which every service must
// have before the next step: a service must never seal with a key that
// another does not know. New keys come last in a keyset.

// What the steps of a rotation return when it is not their turn.
var (
	// ErrUnpromoted means that the newest key does not seal yet.
	ErrUnpromoted = errors.New("the newest key of the keyset does not seal yet")
	// ErrPromoted means that the newest key seals already.
	ErrPromoted = errors.New("the newest key of the keyset seals already")
)

// AddKey returns the keyset with one more key, which opens but does not seal,
// and that key's id. The error is ErrUnpromoted if there is such a key already.
func AddKey(serialized string) (next string, id uint32, err error) {
	handle, newest, err := readNewest(serialized)
	if err != nil {
		return "", 0, err
	}
	if !newest.IsPrimary() {
		return "", 0, fmt.Errorf("key %d: %w", newest.KeyID(), ErrUnpromoted)
	}
	manager := keyset.NewManagerFromHandle(handle)
	if id, err = manager.Add(aead.AES256GCMKeyTemplate()); err != nil {
		return "", 0, fmt.Errorf("add a key: %w", err)
	}
	next, err = writeManaged(manager)
	return next, id, err
}

// PromoteKey returns the keyset with its newest key as the primary, the one that
// seals, and that key's id. The error is ErrPromoted if it is that already.
func PromoteKey(serialized string) (next string, id uint32, err error) {
	handle, newest, err := readNewest(serialized)
	if err != nil {
		return "", 0, err
	}
	if newest.IsPrimary() {
		return "", 0, fmt.Errorf("key %d: %w", newest.KeyID(), ErrPromoted)
	}
	manager := keyset.NewManagerFromHandle(handle)
	if err := manager.SetPrimary(newest.KeyID()); err != nil {
		return "", 0, fmt.Errorf("promote key %d: %w", newest.KeyID(), err)
	}
	next, err = writeManaged(manager)
	return next, newest.KeyID(), err
}

// PruneKeys returns the keyset with nothing but its primary, and the ids of the
// keys that it leaves out, disabled ones included. Whoever calls it has seen to it
// that no row is sealed with one of those. The error is ErrUnpromoted if the
// newest key is not the primary.
func PruneKeys(serialized string) (next string, removed []uint32, err error) {
	handle, newest, err := readNewest(serialized)
	if err != nil {
		return "", nil, err
	}
	if !newest.IsPrimary() {
		return "", nil, fmt.Errorf("key %d: %w", newest.KeyID(), ErrUnpromoted)
	}
	manager := keyset.NewManagerFromHandle(handle)
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return "", nil, fmt.Errorf("keyset: key %d of %d is unreadable", i+1, handle.Len())
		}
		if entry.IsPrimary() {
			continue
		}
		if err := manager.Delete(entry.KeyID()); err != nil {
			return "", nil, fmt.Errorf("remove key %d: %w", entry.KeyID(), err)
		}
		removed = append(removed, entry.KeyID())
	}
	next, err = writeManaged(manager)
	return next, removed, err
}

// readNewest reads a keyset and returns the last of its enabled keys beside it.
func readNewest(serialized string) (handle *keyset.Handle, newest *keyset.Entry, err error) {
	if handle, err = read(serialized); err != nil {
		return nil, nil, err
	}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, nil, fmt.Errorf("keyset: key %d of %d is unreadable", i+1, handle.Len())
		}
		if entry.KeyStatus() == keyset.Enabled {
			newest = entry
		}
	}
	if newest == nil {
		return nil, nil, errors.New("keyset: no key is enabled")
	}
	return handle, newest, nil
}

func writeManaged(manager *keyset.Manager) (string, error) {
	handle, err := manager.Handle()
	if err != nil {
		return "", fmt.Errorf("make a keyset: %w", err)
	}
	return write(handle)
}
