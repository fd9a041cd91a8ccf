package endpoints

import (
	"encoding/base64"
	"fmt"

	"github.com/google/uuid"
)

// cursorVersion begins what is in a cursor: old ones are refused when that changes.
const cursorVersion = 1

// maxCursor bounds a cursor, in characters. Ours have 67.
const maxCursor = 128

// newCursor says where in an endpoint's log a page ended: the next begins with
// the delivery before that id. It is sealed for that endpoint: nobody else can make
// one, and it says nothing to whoever has it.
func (s Store) newCursor(endpointID, at uuid.UUID) (string, error) {
	sealed, err := s.Keyset.Seal(cursorKey(endpointID), append([]byte{cursorVersion}, at[:]...))
	if err != nil {
		return "", fmt.Errorf("%w: cursor: %w", errSecret, err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// parseCursor is the inverse of newCursor. The error is an *invalidError: the
// cursor is not one that newCursor made for this endpoint.
func (s Store) parseCursor(endpointID uuid.UUID, cursor string) (at uuid.UUID, err error) {
	refused := invalid("cursor", "must be the nextCursor of a page of this log")
	if len(cursor) > maxCursor {
		return uuid.Nil, refused
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || base64.RawURLEncoding.EncodeToString(sealed) != cursor { // the decoder skips line ends, for one
		return uuid.Nil, refused
	}
	plain, err := s.Keyset.Open(cursorKey(endpointID), sealed)
	if err != nil || len(plain) != 1+len(at) || plain[0] != cursorVersion {
		return uuid.Nil, refused
	}
	return uuid.UUID(plain[1:]), nil
}

// cursorKey keeps cursors and secrets of an endpoint apart: neither opens as the other.
func cursorKey(endpointID uuid.UUID) uuid.UUID {
	return uuid.NewSHA1(endpointID, []byte("delivery log"))
}
