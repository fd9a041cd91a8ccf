package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/apikeys"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/secrets/reseal"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// A ran is what a run of the command printed and how it ended.
type ran struct {
	out, err string
	code     int
}

// run runs the command to its end, with nothing in its environment but env.
func run(t *testing.T, env []string, args ...string) ran {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append([]string{asCommand + "=1", "DATA=" + filepath.Join(t.TempDir(), "none"), "GORACE=" + os.Getenv("GORACE")}, env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ran{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// must is run, and fails the test if the command failed.
func must(t *testing.T, env []string, args ...string) ran {
	t.Helper()
	r := run(t, env, args...)
	if r.code != 0 {
		t.Fatalf("cardwire %s: exit code %d: %s", strings.Join(args, " "), r.code, r.err)
	}
	return r
}

// says fails the test unless what was printed on stderr matches a pattern.
func (r ran) says(t *testing.T, pattern string) ran {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(r.err) {
		t.Errorf("it says\n%s\nwant %s", r.err, pattern)
	}
	return r
}

func TestKeysNew(t *testing.T) {
	t.Parallel()
	one, two := must(t, nil, "keys", "new").out, must(t, nil, "keys", "new").out
	if _, err := secrets.ParseKeyset(one); err != nil || one == two {
		t.Errorf("%v; %q and %q", err, one, two)
	}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	env := []string{"DATABASE_URL=" + url}
	must(t, env, "keys", "list").says(t, "There are no API keys. Make one with: cardwire keys create ")

	one := must(t, env, "keys", "create", "--name=billing", "--scope=events:publish", "--expires=90d").
		says(t, `^API key "billing", id \S{36}, for events:publish, expires: \d{4}-\d\d-\d\dT\S+Z\.\n.*only time that it is shown\.\n$`)
	text := strings.TrimSuffix(one.out, "\n")
	if !regexp.MustCompile(`^cwk_[A-Z2-7]{26}$`).MatchString(text) || strings.Contains(one.err, text) {
		t.Errorf("printed %q", one.out)
	}
	two := must(t, env, "keys", "create", "--name=billing", "--scope=operator,events:publish").says(t, `for events:publish,operator, expires: never\.`)

	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	works := func(text string) error {
		v, err := apikeys.NewVerifier(pool, zerolog.Nop(), nil) // which remembers nothing
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.Header.Set("Authorization", "Bearer "+text)
		_, err = v.Key(r, apikeys.EventsPublish)
		return err
	}
	if err := errors.Join(works(text), works(strings.TrimSpace(two.out))); err != nil {
		t.Errorf("fresh keys: %v", err)
	}

	id := regexp.MustCompile(`\S{36}`).FindString(one.err)
	if r := run(t, env, "keys", "revoke", "billing"); r.code != 1 {
		t.Errorf("an ambiguous name: %+v", r)
	} else {
		r.says(t, `name "billing": several keys have that name: say which by its id: \S{36}, `+id)
	}
	must(t, env, "keys", "revoke", id).says(t, `^Revoked API key "billing", id `+id+`\. Services refuse it within 5s\.\n$`)
	if err := works(text); !errors.Is(err, apikeys.ErrInvalidKey) {
		t.Errorf("a revoked key: %v", err)
	}
	listed := must(t, env, "keys", "list")
	for _, pattern := range []string{`^ID +NAME +SCOPES +STATE +CREATED +LAST USED +EXPIRES +REVOKED\n`, `billing +events:publish,operator +valid +2\S+Z +2\S+Z +never +never\n`, id + ` +billing +events:publish +revoked +2\S+Z +2\S+Z +2\S+Z +2\S+Z\n$`} {
		if !regexp.MustCompile(pattern).MatchString(listed.out) {
			t.Errorf("listed\n%swant %s", listed.out, pattern)
		}
	}
	if strings.Contains(listed.out, "cwk_") || listed.err != "" {
		t.Errorf("listed %+v", listed)
	}
}

func TestAPIKeysRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	revoked := regexp.MustCompile(`\S{36}`).FindString(must(t, []string{"DATABASE_URL=" + url}, "keys", "create", "--name=gone", "--scope=operator").err)
	must(t, []string{"DATABASE_URL=" + url}, "keys", "revoke", revoked)
	older := pgtest.NewServer(t) // nothing is migrated
	for _, tt := range []struct {
		name string
		url  string
		args []string
		code int
		says string
	}{
		{"no name", url, []string{"create", "--scope=operator"}, 2, `missing flags: --name=NAME`},
		{"no scope", url, []string{"create", "--name=a"}, 2, `missing flags: --scope=SCOPE`},
		{"a bad scope", url, []string{"create", "--name=a", "--scope=events:read"}, 1, `scope: "events:read" is none, must be events:publish or operator`},
		{"a bad scope beside a good one", url, []string{"create", "--name=a", "--scope=operator,root"}, 1, `scope: "root" is none`},
		{"an empty name", url, []string{"create", "--name=", "--scope=operator"}, 1, `name: must have 1 to 64 characters`},
		{"a life that is none", url, []string{"create", "--name=a", "--scope=operator", "--expires=soon"}, 2, `--expires: .*must be days as in 90d, a duration as in 12h, or never, not "soon"`},
		{"a life of no days", url, []string{"create", "--name=a", "--scope=operator", "--expires=0d"}, 2, `--expires`},
		{"a life in the past", url, []string{"create", "--name=a", "--scope=operator", "--expires=-5h"}, 2, `--expires`},
		{"a life of a second", url, []string{"create", "--name=a", "--scope=operator", "--expires=1s"}, 1, `expires: must be between 1 minute and 10 years`},
		{"an unknown name", url, []string{"revoke", "nobody"}, 1, `name "nobody": there is no such key; cardwire keys list shows all`},
		{"an unknown id", url, []string{"revoke", uuid.Nil.String()}, 1, `id 0{8}-\S+: there is no such key; cardwire keys list`},
		{"a revoked name", url, []string{"revoke", "gone"}, 1, `key "gone" is revoked already, since 2`},
		{"a revoked id", url, []string{"revoke", revoked}, 1, `key ` + revoked + ` is revoked already, since 2`},
		{"a key instead of its id", url, []string{"revoke", "cwk_HUSHHUSHHUSHHUSHHUSHHUSHHU"}, 1, `is a key itself: give its id or name`},
		{"nothing to revoke", url, []string{"revoke"}, 2, `expected "<id-or-name>"`},
		{"no database is named", "", []string{"list"}, 1, `no database: set DATABASE_URL to that of the services`},
		{"a database that is not there", "postgres://u:HUSH@127.0.0.1:1/x", []string{"list"}, 1, `the database of DATABASE_URL does not answer`},
		{"a database URL that is none", "postgres://u:HUSH@:port/x", []string{"list"}, 1, `DATABASE_URL: `},
		{"a database that is not migrated", older.URL(), []string{"create", "--name=a", "--scope=operator"}, 1, `schema is older than this command: run cardwire migrate first`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, []string{"DATABASE_URL=" + tt.url}, append([]string{"keys"}, tt.args...)...).says(t, tt.says)
			if r.code != tt.code || r.out != "" || strings.Contains(r.err, "HUSH") {
				t.Errorf("%+v, want exit code %d", r, tt.code)
			}
		})
	}
}

// A sealedDB is a database with sealed rows.
type sealedDB struct {
	t    *testing.T
	url  string
	pool *pgxpool.Pool
}

func newSealedDB(t *testing.T) *sealedDB {
	t.Helper()
	d := &sealedDB{t: t, url: pgtest.URL(t)}
	var err error
	if d.pool, err = pgxpool.New(t.Context(), d.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.pool.Close)
	return d
}

func (d *sealedDB) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.pool.Exec(d.t.Context(), sql, args...); err != nil {
		d.t.Fatal(err)
	}
}

// add adds an endpoint of n secrets, sealed with a keyset, in order of their ids.
func (d *sealedDB) add(serialized string, n int) (ids []uuid.UUID) {
	d.t.Helper()
	keys, err := secrets.ParseKeyset(serialized)
	if err != nil {
		d.t.Fatal(err)
	}
	endpoint := uuid.New()
	d.exec(`INSERT INTO endpoints (id, user_id, url, events) VALUES ($1, $1, 'https://receiver.example/', '{card.viewed}')`, endpoint)
	var rows [][]any
	for range n {
		sealed, err := keys.Seal(endpoint, []byte("secret"))
		if err != nil {
			d.t.Fatal(err)
		}
		ids = append(ids, uuid.Must(uuid.NewV7()))
		rows = append(rows, []any{ids[len(ids)-1], endpoint, sealed})
	}
	if _, err := d.pool.CopyFrom(d.t.Context(), pgx.Identifier{"endpoint_secrets"}, []string{"id", "endpoint_id", "ciphertext"}, pgx.CopyFromRows(rows)); err != nil {
		d.t.Fatal(err)
	}
	return ids
}

func (d *sealedDB) env(keyset string) []string {
	return []string{"DATABASE_URL=" + d.url, "ENCRYPTION_KEYSET=" + strings.TrimSpace(keyset)}
}

// TestRotationOfTheKeyset is a rotation as operators do it, with the re-sealing
// killed in its second transaction and run again.
func TestRotationOfTheKeyset(t *testing.T) {
	t.Parallel()
	d := newSealedDB(t)
	first := must(t, nil, "keys", "new").out
	ids := d.add(first, reseal.MaxBatch+100)
	keys, err := secrets.ParseKeyset(first)
	if err != nil {
		t.Fatal(err)
	}
	d.exec(`INSERT INTO idempotency_keys (user_id, key, request_hash, status, answer) VALUES ($1, 'k', $2, 201, $3)`,
		uuid.Nil, make([]byte, 32), sealWith(t, keys, secrets.AnswerID(uuid.Nil, "k")))

	added := must(t, d.env(first), "keys", "add").says(t, `^Added key \d+\. It opens, but does not seal yet\.\nNext: set ENCRYPTION_KEYSET .* only then run: cardwire keys promote\n$`)
	promoted := must(t, d.env(added.out), "keys", "promote").says(t, `^Key \d+ seals, the others still open\.\nNext: .* only then run: cardwire keys rotate\n$`)
	if r := run(t, d.env(promoted.out), "keys", "prune"); r.code != 1 || r.out != "" {
		t.Errorf("pruned too early: %+v", r)
	} else {
		r.says(t, fmt.Sprintf(`not pruned: still under another key than \d+, which seals: endpoint_secrets.ciphertext: %d under key %d; idempotency_keys.answer: 1 under key %d\. Run cardwire keys rotate first`,
			len(ids), keys.Primary(), keys.Primary()))
	}

	// The second transaction waits for this lock, and is killed there.
	lock, err := d.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := lock.Exec(t.Context(), `SELECT pg_advisory_lock(1)`); err != nil {
		t.Fatal(err)
	}
	d.exec(`CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$`)
	d.exec(`CREATE TRIGGER wait BEFORE UPDATE ON endpoint_secrets FOR EACH ROW WHEN (OLD.id = '` + ids[reseal.MaxBatch+1].String() + `') EXECUTE FUNCTION wait()`)
	p := commandIn(t, d.env(promoted.out), "keys", "rotate")
	p.prints(fmt.Sprintf(`endpoint_secrets: %d rows re-sealed\n`, reseal.MaxBatch))
	p.signal(os.Kill)
	if code, last := p.ends(); code != -1 {
		t.Errorf("killed: exit code %d: %s", code, last)
	}
	if _, err := lock.Exec(t.Context(), `SELECT pg_advisory_unlock(1)`); err != nil {
		t.Fatal(err)
	}
	d.exec(`DROP TRIGGER wait ON endpoint_secrets`) // waits for the killed one's transaction

	again := must(t, d.env(promoted.out), "keys", "rotate").says(t, `endpoint_secrets: 100 rows re-sealed\nidempotency_keys: 1 rows re-sealed\nNext: cardwire keys prune\n$`)
	if want := "Re-sealed 100 rows of endpoint_secrets and 1 of idempotency_keys with key "; !strings.HasPrefix(again.out, want) {
		t.Errorf("printed %q, want %q", again.out, want)
	}
	if r := must(t, d.env(promoted.out), "keys", "rotate"); !strings.HasPrefix(r.out, "Re-sealed 0 rows of endpoint_secrets and 0 of idempotency_keys") {
		t.Errorf("once more: %+v", r)
	}
	pruned := must(t, d.env(promoted.out), "keys", "prune").says(t, fmt.Sprintf(`^Removed what nothing in the database needs: key %d\. Only key \d+ is left\.\nNext: .*\nKeep the keyset from before as long as backups`, keys.Primary()))
	last, err := secrets.ParseKeyset(pruned.out)
	if err != nil || last.Holds(keys.Primary()) {
		t.Fatalf("pruned to a keyset with the old key: %v", err)
	}
	rows, err := d.pool.Query(t.Context(), `SELECT endpoint_id, ciphertext FROM endpoint_secrets UNION ALL SELECT $1, answer FROM idempotency_keys`, secrets.AnswerID(uuid.Nil, "k"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	var id uuid.UUID
	var sealed []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &sealed}, func() error {
		n++
		if plain, err := last.Open(id, sealed); err != nil || string(plain) != "secret" {
			t.Errorf("%q, %v", plain, err)
		}
		if _, err := keys.Open(id, sealed); err == nil {
			t.Error("the old key opens a row")
		}
		return nil
	})
	if err != nil || n != len(ids)+1 {
		t.Errorf("%d rows, %v", n, err)
	}
	if r := must(t, d.env(pruned.out), "keys", "prune").says(t, `nothing to remove: the keyset has only key`); r.out != pruned.out {
		t.Errorf("pruned again: %+v", r)
	}
}

func sealWith(t *testing.T, keys *secrets.Keyset, id uuid.UUID) []byte {
	t.Helper()
	sealed, err := keys.Seal(id, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestRotationRefused(t *testing.T) {
	t.Parallel()
	d := newSealedDB(t)
	first, foreign := must(t, nil, "keys", "new").out, must(t, nil, "keys", "new").out
	added := must(t, d.env(first), "keys", "add").out
	promoted := must(t, d.env(added), "keys", "promote").out
	d.add(first, 3)
	d.add(foreign, 2)
	other, err := secrets.ParseKeyset(foreign)
	if err != nil {
		t.Fatal(err)
	}
	missing := fmt.Sprintf("key %d", other.Primary())
	nowhere := []string{"DATABASE_URL=postgres://u:HUSH@127.0.0.1:1/x", "ENCRYPTION_KEYSET=" + strings.TrimSpace(promoted)}
	for _, tt := range []struct {
		name string
		env  []string
		step string
		says string
	}{
		{"add without a keyset", nil, "add", `no keyset: set ENCRYPTION_KEYSET to the one that webhooks and deliverer have`},
		{"promote without a keyset", nil, "promote", `no keyset: set ENCRYPTION_KEYSET`},
		{"rotate without a keyset", nil, "rotate", `no keyset: set ENCRYPTION_KEYSET`},
		{"prune without a keyset", nil, "prune", `no keyset: set ENCRYPTION_KEYSET`},
		{"add to what is no keyset", d.env("HUSH"), "add", `ENCRYPTION_KEYSET: keyset: `},
		{"rotate with what is no keyset", d.env("HUSH"), "rotate", `ENCRYPTION_KEYSET: keyset: `},
		{"add twice", d.env(added), "add", `does not seal yet: first set ENCRYPTION_KEYSET to what cardwire keys promote prints`},
		{"promote before add", d.env(first), "promote", `seals already: first set ENCRYPTION_KEYSET to what cardwire keys add prints`},
		{"promote twice", d.env(promoted), "promote", `seals already: first set ENCRYPTION_KEYSET to what cardwire keys add prints`},
		{"prune before promote", d.env(added), "prune", `does not seal yet: first set ENCRYPTION_KEYSET to what cardwire keys promote prints`},
		{"prune while a key is missing", d.env(promoted), "prune", `not pruned: .*2 under ` + missing + `, which this keyset does not have`},
		{"rotate without a database", []string{"ENCRYPTION_KEYSET=" + strings.TrimSpace(promoted)}, "rotate", `no database: set DATABASE_URL`},
		{"rotate, the database is not there", nowhere, "rotate", `the database of DATABASE_URL does not answer`},
		{"prune, the database is not there", nowhere, "prune", `the database of DATABASE_URL does not answer`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if r := run(t, tt.env, "keys", tt.step).says(t, tt.says); r.code != 1 || r.out != "" || strings.Contains(r.err, "HUSH") {
				t.Errorf("%+v", r)
			}
		})
	}
	t.Run("rotate before promote: it says so", func(t *testing.T) {
		t.Parallel()
		d := newSealedDB(t)
		d.add(first, 1)
		must(t, d.env(added), "keys", "rotate").says(t, `^Note: key \d+ of the keyset does not seal yet.*Was cardwire keys promote left out\?\n`)
	})
	t.Run("rotate while a key is missing: all else is done, and the key is named", func(t *testing.T) {
		t.Parallel()
		d := newSealedDB(t)
		d.add(first, 3)
		d.add(foreign, 2)
		r := run(t, d.env(promoted), "keys", "rotate").
			says(t, `endpoint_secrets.ciphertext: 2 under `+missing+`, which this keyset does not have\n`).
			says(t, `Re-sealed 3 rows of endpoint_secrets`).
			says(t, `rows that could not be opened and were left as they are: 2; the first: .* sealed with `+missing+`, which ENCRYPTION_KEYSET does not have \(it has \d+, \d+\): go back to a keyset that has it`)
		if r.code != 1 || r.out != "" {
			t.Errorf("%+v", r)
		}
	})
}
