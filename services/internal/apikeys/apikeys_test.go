package apikeys

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var publish = []Scope{EventsPublish}

func create(t testing.TB, s Store, name string, life time.Duration, scopes ...Scope) (string, Key) {
	t.Helper()
	text, k, err := s.Create(t.Context(), name, scopes, life)
	if err != nil {
		t.Fatal(err)
	}
	return text, k
}

func TestCreate(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := Store{DB: pool}
	for _, tt := range []struct {
		name, keyName string
		scopes        []Scope
		life          time.Duration
		wantErr       string // "" means none
	}{
		{"for ever", "billing", publish, 0, ""},
		{"for a day", "billing", publish, 24 * time.Hour, ""},
		{"both scopes", "deploy", []Scope{Operator, EventsPublish}, 0, ""},
		{"a scope twice", "deploy", []Scope{Operator, Operator}, 0, ""},
		{"a name of 64 characters, not bytes", strings.Repeat("ё", 64), publish, 0, ""},
		{"a name with spaces inside", "card service, staging", publish, 0, ""},
		{"no name", "", publish, 0, "name: must have 1 to 64 characters"},
		{"a name of 65 characters", strings.Repeat("n", 65), publish, 0, "name: must have 1 to 64 characters"},
		{"a name of two lines", "a\nb", publish, 0, "name: must be printable"},
		{"a name that is no UTF-8", "a\xff", publish, 0, "name: must be printable"},
		{"a name with a space at its end", "a ", publish, 0, "name: must not begin or end with a space"},
		{"a name like an id", uuid.NewString(), publish, 0, "name: must not look like an id"},
		{"a name like a key", "cwk_ABC", publish, 0, "name: must not begin with cwk_"},
		{"no scope", "a", nil, 0, "scope: must be events:publish, operator, or both"},
		{"an unknown scope", "a", []Scope{"events:read"}, 0, `scope: "events:read" is none, must be events:publish or operator`},
		{"a life of seconds", "a", publish, 59 * time.Second, "expires: must be between"},
		{"a life in the past", "a", publish, -time.Hour, "expires: must be between"},
		{"a life of centuries", "a", publish, 200 * 365 * 24 * time.Hour, "expires: must be between"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text, k, err := s.Create(t.Context(), tt.keyName, tt.scopes, tt.life)
			if tt.wantErr != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.wantErr) || text != "" {
					t.Errorf("%q, %v; want %q", text, err, tt.wantErr)
				}
				return
			}
			if err != nil || !looksLikeKey(text) || k.Name != tt.keyName || !slices.IsSorted(k.Scopes) || k.LastUsed != nil || k.RevokedAt != nil {
				t.Fatalf("%q, %+v, %v", text, k, err)
			}
			for _, scope := range Scopes() {
				if k.Allows(scope) != slices.Contains(tt.scopes, scope) {
					t.Errorf("scope %s of %v", scope, k.Scopes)
				}
			}
			if (k.ExpiresAt == nil) != (tt.life == 0) || tt.life != 0 && !k.ExpiresAt.Equal(k.Created.Add(tt.life)) {
				t.Errorf("created %v, expires %v", k.Created, k.ExpiresAt)
			}
		})
	}
}

func TestTheKeyIsNotKept(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := Store{DB: pool}
	text, _ := create(t, s, "a", 0, EventsPublish)
	other, _ := create(t, s, "a", 0, EventsPublish)
	if text == other {
		t.Error("two keys are the same")
	}
	var row string
	if err := pool.QueryRow(t.Context(), `SELECT string_agg(k::text, ' ') FROM api_keys k`).Scan(&row); err != nil {
		t.Fatal(err)
	}
	sum := hash(text)
	if strings.Contains(row, text[len(Prefix):]) || !strings.Contains(row, fmt.Sprintf("%x", sum)) {
		t.Errorf("kept: %s", row)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	s := Store{DB: pgtest.New(t)}
	_, one := create(t, s, "one", 0, EventsPublish)
	_, two := create(t, s, "two", 0, EventsPublish)
	_, twoToo := create(t, s, "two", 0, Operator)
	key, _ := create(t, s, "other", 0, Operator)

	for _, step := range []struct { // in this order
		name, what string
		want       error
		says       string
	}{
		{"an unknown name", "nobody", ErrUnknown, `name "nobody": there is no such key`},
		{"an unknown id", uuid.Nil.String(), ErrUnknown, uuid.Nil.String()},
		{"nothing", "", ErrUnknown, "no such key"},
		{"the key itself, which is not repeated", key, ErrUnknown, "give its id or name"},
		{"a name of two keys: both are listed", "two", ErrAmbiguous, two.ID.String()},
		{"a name of one", "one", nil, ""},
		{"a name of one, again", "one", ErrRevoked, "is revoked already, since 2"},
		{"its id", one.ID.String(), ErrRevoked, "is revoked already, since 2"},
		{"an id of one of two", two.ID.String(), nil, ""},
		{"the name of which one is left", "two", nil, ""},
		{"the name of which none is left", "two", ErrRevoked, "is revoked already"},
		{"an id in capitals", strings.ToUpper(twoToo.ID.String()), ErrRevoked, "is revoked already"},
	} {
		k, err := s.Revoke(t.Context(), step.what)
		if !errors.Is(err, step.want) || err != nil && !strings.Contains(err.Error(), step.says) || (err == nil) != (k.ID != uuid.Nil) {
			t.Errorf("%s: %+v, %v", step.name, k, err)
		}
		if err != nil && strings.Contains(err.Error(), key) {
			t.Errorf("%s: repeats a key: %v", step.name, err)
		}
	}
	keys, err := s.List(t.Context())
	if err != nil || len(keys) != 4 || keys[0].Name != "other" || keys[3].Name != "one" {
		t.Fatalf("listed %+v, %v", keys, err)
	}
	for _, k := range keys {
		if want := k.Name == "other"; (k.State(time.Now()) == "valid") != want {
			t.Errorf("%s is %s", k.Name, k.State(time.Now()))
		}
	}
}

// A clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) forward(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

func newVerifier(t testing.TB, pool *pgxpool.Pool) (*Verifier, *clock) {
	t.Helper()
	c := &clock{now: time.Now()}
	v, err := NewVerifier(pool, zerolog.Nop(), c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return v, c
}

func requestWith(t testing.TB, authorization ...string) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/events", nil)
	for _, a := range authorization {
		r.Header.Add("Authorization", a)
	}
	return r
}

func TestVerifier(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := Store{DB: pool}
	text, _ := create(t, s, "publisher", 0, EventsPublish)
	operator, _ := create(t, s, "operator", 0, Operator)
	both, _ := create(t, s, "both", 0, Operator, EventsPublish)
	short, _ := create(t, s, "short", time.Minute, EventsPublish)
	revoked, k := create(t, s, "revoked", 0, EventsPublish)
	if _, err := s.Revoke(t.Context(), k.ID.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE name = 'short'`); err != nil {
		t.Fatal(err)
	}
	last := text[len(text)-1]
	other := "A"
	if last == 'A' {
		other = "B"
	}
	for _, tt := range []struct {
		name          string
		authorization []string
		want          error // nil: in
	}{
		{"the key", []string{"Bearer " + text}, nil},
		{"the scheme in other letters, with spaces", []string{"bEARER   " + text + " "}, nil},
		{"a key of both scopes", []string{"Bearer " + both}, nil},
		{"a key of another scope", []string{"Bearer " + operator}, ErrScope},
		{"a revoked key", []string{"Bearer " + revoked}, ErrInvalidKey},
		{"an expired key", []string{"Bearer " + short}, ErrInvalidKey},
		{"a key that is off by a letter", []string{"Bearer " + text[:len(text)-1] + other}, ErrInvalidKey},
		{"a key in small letters", []string{"Bearer cwk_" + strings.ToLower(text[4:])}, ErrInvalidKey},
		{"a key cut short", []string{"Bearer " + text[:len(text)-1]}, ErrInvalidKey},
		{"a key with more behind", []string{"Bearer " + text + "A"}, ErrInvalidKey},
		{"the prefix", []string{"Bearer cwk_"}, ErrInvalidKey},
		{"a key of a megabyte", []string{"Bearer cwk_" + strings.Repeat("A", 1<<20)}, ErrInvalidKey},
		{"an invented key", []string{"Bearer " + newText()}, ErrInvalidKey},
		{"nothing", nil, ErrNoKey},
		{"another bearer token", []string{"Bearer eyJhbGciOiJIUzI1NiJ9.e30.AA"}, ErrNoKey},
		{"another scheme", []string{"Basic " + text}, ErrNoKey},
		{"no scheme", []string{text}, ErrNoKey},
		{"two headers", []string{"Bearer " + text, "Bearer " + text}, ErrNoKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, _ := newVerifier(t, pool)
			for range 2 { // from the database and from memory
				k, err := v.Key(requestWith(t, tt.authorization...), EventsPublish)
				if !errors.Is(err, tt.want) || (err == nil) != (k.ID != uuid.Nil) {
					t.Errorf("%+v, %v; want %v", k, err, tt.want)
				}
				if err != nil && len(err.Error()) > 80 {
					t.Errorf("quotes what it was given: %v", err)
				}
			}
		})
	}
}

func TestRevokedWithin(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := Store{DB: pool}
	text, _ := create(t, s, "a", time.Hour, EventsPublish)
	v, clock := newVerifier(t, pool)
	r := requestWith(t, "Bearer "+text)
	if _, err := v.Key(r, EventsPublish); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Revoke(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	clock.forward(RevokedWithin - time.Millisecond)
	if _, err := v.Key(r, EventsPublish); err != nil {
		t.Errorf("just before: %v", err)
	}
	clock.forward(time.Millisecond)
	if _, err := v.Key(r, EventsPublish); !errors.Is(err, ErrInvalidKey) {
		t.Errorf("after %s: %v", RevokedWithin, err)
	}
	if n := v.cache.Len(); n != 0 {
		t.Errorf("a revoked key is remembered")
	}
}

func TestExpiryCountsAtOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	text, k := create(t, Store{DB: pool}, "a", time.Hour, EventsPublish)
	v, clock := newVerifier(t, pool)
	r := requestWith(t, "Bearer "+text)
	clock.forward(k.ExpiresAt.Sub(clock.Now()) - time.Second)
	if _, err := v.Key(r, EventsPublish); err != nil {
		t.Fatal(err)
	}
	clock.forward(time.Second) // within what is remembered
	if _, err := v.Key(r, EventsPublish); !errors.Is(err, ErrInvalidKey) {
		t.Errorf("at its end: %v", err)
	}
}

func TestLastUsed(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := Store{DB: pool}
	text, k := create(t, s, "a", 0, EventsPublish)
	create(t, s, "unused", 0, EventsPublish)
	v, clock := newVerifier(t, pool)
	used := func() *time.Time {
		t.Helper()
		keys, err := s.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if keys[0].LastUsed != nil {
			t.Errorf("a key that nobody used: %v", keys[0].LastUsed)
		}
		return keys[1].LastUsed
	}
	use := func() {
		t.Helper()
		if _, err := v.Key(requestWith(t, "Bearer "+text), EventsPublish); err != nil {
			t.Fatal(err)
		}
	}
	if used() != nil {
		t.Error("used before it was")
	}
	use()
	first := used()
	if first == nil || first.Before(k.Created) {
		t.Fatalf("used at %v, created at %v", first, k.Created)
	}
	for range 8 {
		clock.forward(RevokedWithin)
		use()
	}
	if again := used(); !again.Equal(*first) {
		t.Errorf("written again after %v", again.Sub(*first))
	}
	// The database has its own clock: make it 50 s later there, too.
	if _, err := pool.Exec(t.Context(), `UPDATE api_keys SET last_used_at = last_used_at - interval '50 seconds'`); err != nil {
		t.Fatal(err)
	}
	clock.forward(RevokedWithin)
	use()
	if again := used(); again.Before(*first) {
		t.Error("a use 50 s later is not noted")
	}
}

func TestWithoutADatabase(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s := Store{DB: pool}
	v, _ := newVerifier(t, pool)
	_, keyErr := v.Key(requestWith(t, "Bearer "+newText()), Operator)
	if !errors.Is(keyErr, ErrUnavailable) || errors.Is(keyErr, ErrInvalidKey) {
		t.Errorf("key: %v", keyErr)
	}
	text, _, createErr := s.Create(t.Context(), "a", publish, 0)
	_, listErr := s.List(t.Context())
	_, nameErr := s.Revoke(t.Context(), "a")
	_, idErr := s.Revoke(t.Context(), uuid.NewString())
	for what, err := range map[string]error{"insert API key": createErr, "list API keys": listErr, `look up API key "a"`: nameErr, "look up API key": idErr} {
		if err == nil || !strings.HasPrefix(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if text != "" {
		t.Error("a key that is not kept was shown")
	}
}

// A key goes on working for a while without the database, and its use is worth no failure.
func TestTheDatabaseGoesAway(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	text, _ := create(t, Store{DB: pool}, "a", 0, EventsPublish)
	var logs bytes.Buffer
	c := &clock{now: time.Now()}
	v, err := NewVerifier(pool, zerolog.New(&logs), c.Now)
	if err != nil {
		t.Fatal(err)
	}
	r := requestWith(t, "Bearer "+text)
	if _, err := pool.Exec(t.Context(), `ALTER TABLE api_keys ADD CHECK (last_used_at IS NULL)`); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Key(r, EventsPublish); err != nil || !strings.Contains(logs.String(), "use of API key not noted") {
		t.Errorf("a use that can't be noted: %v, %s", err, logs.String())
	}
	if strings.Contains(logs.String(), text) {
		t.Error("the key is in the log")
	}
	pool.Close()
	if _, err := v.Key(r, EventsPublish); err != nil {
		t.Errorf("at once: %v", err)
	}
	c.forward(RevokedWithin)
	if _, err := v.Key(r, EventsPublish); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after %s: %v", RevokedWithin, err)
	}
}
