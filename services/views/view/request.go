package view

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/auth"
)

// maxUsername is the longest username there can be, in bytes (users.username).
const maxUsername = 39

// parseUsername is a username as the database has it: in lower case. ok is
// false if no user can have it. Only A-Z is lowered: U+212A, the Kelvin sign,
// is no k.
func parseUsername(s string) (username string, ok bool) {
	if len(s) < 1 || len(s) > maxUsername {
		return "", false
	}
	var lower [maxUsername]byte
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if !isWord(c) || i == 0 && (c == '_' || c == '-') {
			return "", false
		}
		lower[i] = c
	}
	return string(lower[:len(s)]), true
}

var errCardID = errors.New("cardId: must be a UUID such as 0193b0aa-1111-7222-8333-444455556666")

// parseCardID takes the usual 36 characters, in any case, and no other spelling.
// The nil UUID is no card: it stands for none (pageKey).
func parseCardID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 || id == uuid.Nil {
		return uuid.Nil, errCardID
	}
	return id, nil
}

var (
	errQuery  = errors.New("query: must be name=value pairs joined by &, percent-encoded")
	errSource = errors.New("source: must be 1 to 32 of a-z, 0-9, _ and -, given once")
)

// parseSource is where a view says that it comes from: the parameter source of
// the query, or def if there is none.
func parseSource(rawQuery, def string) (string, error) {
	if rawQuery == "" {
		return def, nil
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return "", errQuery
	}
	switch values := query["source"]; {
	case len(values) == 0:
		return def, nil
	case len(values) > 1 || !validSource(values[0]):
		return "", errSource
	default:
		return values[0], nil
	}
}

// validSource says whether s is 1 to 32 of a-z, 0-9, _ and -.
func validSource(s string) bool {
	for i := range len(s) {
		if !isWord(s[i]) {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

// isWord says whether c may be in a username or a source.
func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// A viewer is whoever looks at a page.
type viewer struct {
	id    uuid.UUID  // nil: anonymous
	addr  netip.Addr // never leaves this process but as a keyed hash
	agent string     // as the client sent it
}

// user says who makes the request; nil is anonymous, and so is a token that is
// invalid, or that can't be checked for now: a page does not wait for a login's server to come back.
func user(v *auth.Verifier, r *http.Request) uuid.UUID {
	id, err := v.User(r)
	if err != nil {
		return uuid.Nil
	}
	return id
}
