package demo

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// rows returns what a query finds, as text.
func rows(t *testing.T, pool *pgxpool.Pool, query string) string {
	t.Helper()
	var text string
	if err := pool.QueryRow(t.Context(), "SELECT coalesce(string_agg(q::text, ' ' ORDER BY q::text), '') FROM ("+query+") q").Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

func seedAll(t *testing.T, pool *pgxpool.Pool, keyset *secrets.Keyset, receiver string) (live bool) {
	t.Helper()
	if err := SeedUsers(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(receiver)
	if err != nil {
		t.Fatal(err)
	}
	live, err = SeedEndpoint(t.Context(), pool, keyset, u)
	if err != nil {
		t.Fatal(err)
	}
	return live
}

func newKeyset(t *testing.T) *secrets.Keyset {
	t.Helper()
	serialized, err := secrets.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	k, err := secrets.ParseKeyset(serialized)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const (
	all      = "SELECT 'u', id, username || ' ' || display_name FROM users UNION ALL SELECT 'l', id, url FROM links UNION ALL SELECT 'c', id, title FROM cards UNION ALL SELECT 'cl', link_id, card_id::text FROM card_links UNION ALL SELECT 'e', id, url || (deleted_at IS NOT NULL) FROM endpoints UNION ALL SELECT 's', id, ciphertext::text FROM endpoint_secrets"
	receiver = "http://127.0.0.1:8080/sample-receiver"
)

func TestSeedChangesNothingThatIsThere(t *testing.T) {
	t.Parallel()
	pool, keyset := pgtest.New(t), newKeyset(t)
	if !seedAll(t, pool, keyset, receiver) {
		t.Error("a new endpoint is not live")
	}
	for _, tc := range []struct{ name, change string }{
		{"as it was made", "SELECT 1"},
		{"a name is edited", "UPDATE users SET display_name = 'A.' WHERE username = 'alice'"},
		{"a user is renamed", "UPDATE users SET username = 'bobby' WHERE username = 'bob'"},
		{"a link and a card are deleted", "WITH l AS (DELETE FROM links WHERE platform = 'website') DELETE FROM cards WHERE id = '" + BobCard.String() + "'"},
		{"the endpoint leads elsewhere", "UPDATE endpoints SET url = 'https://example.com/'"},
		{"the endpoint is deleted", "WITH s AS (DELETE FROM endpoint_secrets) UPDATE endpoints SET deleted_at = now()"},
	} {
		if _, err := pool.Exec(t.Context(), tc.change); err != nil {
			t.Fatal(err)
		}
		before := rows(t, pool, all)
		live := seedAll(t, pool, keyset, receiver)
		if diff := cmp.Diff(before, rows(t, pool, all)); diff != "" {
			t.Errorf("%s: the next seed changes it (-before +after):\n%s", tc.name, diff)
		}
		if deleted := strings.Contains(tc.name, "endpoint is deleted"); live == deleted {
			t.Errorf("%s: live is %v", tc.name, live)
		}
	}
}

func TestSeedRefusesSomebodyElsesName(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	if _, err := pool.Exec(t.Context(), "INSERT INTO users (id, username, display_name) VALUES (gen_random_uuid(), 'bob', 'Another Bob')"); err != nil {
		t.Fatal(err)
	}
	if err := SeedUsers(t.Context(), pool); err == nil || !strings.Contains(err.Error(), "bob") {
		t.Errorf("%v", err)
	}
}

func TestMoved(t *testing.T) {
	t.Parallel()
	to, err := url.Parse(receiver)
	if err != nil {
		t.Fatal(err)
	}
	for was, want := range map[string]string{
		receiver:                                           "",
		"http://127.0.0.1:9999/sample-receiver":            receiver,
		"http://[::1]:9999/sample-receiver":                receiver,
		"http://127.0.0.1:9999/sample-receiver?status=500": receiver + "?status=500",
		"http://127.0.0.1:9999/mine":                       "",
		"https://127.0.0.1:9999/sample-receiver":           "",
		"http://10.0.0.1:9999/sample-receiver":             "",
		"http://example.com/sample-receiver":               "",
		"::":                                               "",
	} {
		if got, ok := moved(was, to); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v, want %q", was, got, ok, want)
		}
	}
}
