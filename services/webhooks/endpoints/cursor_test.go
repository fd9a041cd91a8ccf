package endpoints

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/secrets"
)

func newStore(t testing.TB) Store {
	t.Helper()
	serial, err := secrets.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	keyset, err := secrets.ParseKeyset(serial)
	if err != nil {
		t.Fatal(err)
	}
	return Store{Keyset: keyset}
}

func TestCursor(t *testing.T) {
	t.Parallel()
	s, endpoint, at := newStore(t), uuid.New(), uuid.Must(uuid.NewV7())
	cursor := func(s Store, endpoint uuid.UUID) string {
		c, err := s.newCursor(endpoint, at)
		if err != nil || len(c) > maxCursor {
			t.Fatalf("%q: %v", c, err)
		}
		return c
	}
	good := cursor(s, endpoint)
	if got, err := s.parseCursor(endpoint, good); got != at || err != nil {
		t.Errorf("got %v, %v; want %v", got, err, at)
	}
	flipped := []byte(good)
	flipped[20] ^= 1
	secret, err := s.Keyset.Seal(endpoint, append([]byte{cursorVersion}, at[:]...))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]string{
		"of another endpoint":       cursor(s, uuid.New()),
		"of another keyset":         cursor(newStore(t), endpoint),
		"changed":                   string(flipped),
		"cut off":                   good[:len(good)-4],
		"with something after it":   good + "AAAA",
		"padded":                    good + "=",
		"with a line end":           good + "\r\n",
		"a delivery's id":           at.String(),
		"something else we sealed":  string(secret),
		"nothing":                   "",
		"far too long":              strings.Repeat("A", 1<<20),
		"of an alphabet of its own": "+/" + good[2:],
	} {
		if _, err := s.parseCursor(endpoint, c); err == nil || !strings.HasPrefix(err.Error(), "cursor: must be the nextCursor") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzCursor: whatever is sent, it is refused, unless we made it.
func FuzzCursor(f *testing.F) {
	s, endpoint, at := newStore(f), uuid.New(), uuid.Must(uuid.NewV7())
	ours, err := s.newCursor(endpoint, at)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", ours, ours[1:], ours + "=", ours + "\n", at.String(), "AAAA", "-_", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		got, err := s.parseCursor(endpoint, cursor)
		if (err == nil) != (cursor == ours) || err == nil && got != at {
			t.Errorf("%q: %v, %v", cursor, got, err)
		}
	})
}
