// Package apikeys makes, lists, revokes and checks API keys: what services and
// operators show for "Authorization: Bearer cwk_…". Of a key only its SHA-256 is
// kept: it has 130 random bits, so there is nothing to guess and no need for a slow hash.
package apikeys

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/sql/db"
)

// Prefix is what every key begins with, so that people and scanners of
// repositories know one when they see it.
const Prefix = "cwk_"

// textBytes is the length of what follows: rand.Text's base32, 5 bits each.
const textBytes = 26

// A Scope is something that a key may be used for.
type Scope string

// The scopes, as they stand in the database.
const (
	EventsPublish Scope = "events:publish" // publish events over HTTP
	Operator      Scope = "operator"       // what operators may do to all users' endpoints
)

// Scopes lists all scopes.
func Scopes() []Scope { return []Scope{EventsPublish, Operator} }

// ParseScope returns the scope of that name; the error lists those there are.
func ParseScope(name string) (Scope, error) {
	if s := Scope(name); slices.Contains(Scopes(), s) {
		return s, nil
	}
	return "", fmt.Errorf("scope: %q is none, must be %s or %s", name, EventsPublish, Operator)
}

// A Key is what is known about a key; the key itself is not.
type Key struct {
	ID        uuid.UUID // UUIDv7
	Name      string    // whose it is or what for; not unique, so that a key can be replaced under its name
	Scopes    []Scope   // sorted, at least one
	Created   time.Time
	ExpiresAt *time.Time // nil: never
	LastUsed  *time.Time // to within a minute; nil: never
	RevokedAt *time.Time // nil: not revoked
}

// Allows says whether the key has a scope.
func (k Key) Allows(s Scope) bool { return slices.Contains(k.Scopes, s) }

// State is one word for what the key is at a time: "revoked", "expired" or "valid".
func (k Key) State(now time.Time) string {
	switch {
	case k.RevokedAt != nil:
		return "revoked"
	case k.ExpiresAt != nil && !now.Before(*k.ExpiresAt):
		return "expired"
	default:
		return "valid"
	}
}

func fromRow(row db.ApiKey) Key {
	k := Key{ID: row.ID, Name: row.Name, Created: row.CreatedAt, ExpiresAt: row.ExpiresAt, LastUsed: row.LastUsedAt, RevokedAt: row.RevokedAt}
	for _, s := range row.Scopes {
		k.Scopes = append(k.Scopes, Scope(s))
	}
	return k
}

func newText() string { return Prefix + rand.Text() }

// looksLikeKey says whether text may be a key: no other is looked up.
func looksLikeKey(text string) bool {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok || len(rest) != textBytes {
		return false
	}
	for _, c := range []byte(rest) {
		if (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

func hash(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }

const maxNameRunes = 64 // the table's limit

// checkName says what is wrong with a name. It must not be taken for an id or for a key.
func checkName(name string) error {
	_, err := uuid.Parse(name)
	switch {
	case name == "" || utf8.RuneCountInString(name) > maxNameRunes:
		return fmt.Errorf("name: must have 1 to %d characters", maxNameRunes)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("name: must be printable text of one line")
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("name: must not begin or end with a space")
	case err == nil:
		return fmt.Errorf("name: must not look like an id")
	case strings.HasPrefix(name, Prefix):
		return fmt.Errorf("name: must not begin with %s, as keys do", Prefix)
	}
	return nil
}
