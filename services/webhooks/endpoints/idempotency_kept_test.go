package endpoints

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/secrets/reseal"
	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestAKeyIsFreeAfterADay(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.keyed(t, alice, "k", allEndpoints, registration("x"))
	age := func(by string) {
		t.Helper()
		s.exec(t, `UPDATE idempotency_keys SET created_at = clock_timestamp() - $1::text::interval`, by)
	}
	age("23 hours 59 minutes")
	sameAnswer(t, a, s.keyed(t, alice, "k", allEndpoints, registration("x")))
	age("24 hours")
	b := s.keyed(t, alice, "k", allEndpoints, registration("y"))
	if b.status != 201 || b.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("another request: %d %s", b.status, b.body)
	}
	sameAnswer(t, b, s.keyed(t, alice, "k", allEndpoints, registration("y")))
	age("24 hours")
	// A failure in its place leaves the old row as it was, which counts for nothing.
	if c := s.keyed(t, alice, "k", allEndpoints, `{"url":"https://10.0.0.1/","events":["card.viewed"]}`); c.status != 400 {
		t.Errorf("a failure: %d %s", c.status, c.body)
	}
	if c := s.keyed(t, alice, "k", allEndpoints, registration("y")); c.status != 201 || c.header.Get("Idempotency-Replayed") != "" || c.body == b.body {
		t.Errorf("the same request after a day: %d %s", c.status, c.body)
	}
	if n := s.count(t, `endpoints`); n != 3 {
		t.Errorf("%d endpoints, want 3", n)
	}
}

func TestOldKeysAreForgotten(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.keyed(t, alice, "k", allEndpoints, registration("x"))
	s.exec(t, `INSERT INTO idempotency_keys (user_id, key, request_hash, status, answer, created_at)
		SELECT $1, 'old-' || i, sha256(''), 201, '', clock_timestamp() - interval '24 hours' FROM generate_series(1, $2) AS i`, bob, 2*forgetRows+1)
	if err := s.forgetOldKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.count(t, `idempotency_keys`); n != 1 {
		t.Errorf("%d keys are left, want the young one", n)
	}
	sameAnswer(t, a, s.keyed(t, alice, "k", allEndpoints, registration("x")))
}

// Through a rotation of the keyset, each process with the keyset that it has by then.
func TestKeptAnswersOpenAfterTheKeysetWasRotated(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	old := settings(t).EncryptionKeyset
	with := func(keyset string) *server {
		return changedServer(t, pool, func(c *Config) { c.EncryptionKeyset = keyset })
	}
	a := with(old).keyed(t, alice, "k", allEndpoints, registration("x"))
	next, _, err := secrets.AddKey(old)
	if err != nil {
		t.Fatal(err)
	}
	promoted, _, err := secrets.PromoteKey(next)
	if err != nil {
		t.Fatal(err)
	}
	sameAnswer(t, a, with(promoted).keyed(t, alice, "k", allEndpoints, registration("x")))
	keyset, err := secrets.ParseKeyset(promoted)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := (reseal.Resealer{DB: pool, Keyset: keyset}).Run(t.Context()); err != nil || res.Answers != 1 {
		t.Fatalf("re-sealed %+v, %v", res, err)
	}
	pruned, _, err := secrets.PruneKeys(promoted)
	if err != nil {
		t.Fatal(err)
	}
	sameAnswer(t, a, with(pruned).keyed(t, alice, "k", allEndpoints, registration("x")))
	if b := with(old).keyed(t, alice, "k", allEndpoints, registration("x")); b.status != 500 || b.body == a.body {
		t.Errorf("without the key: %d %s", b.status, b.body)
	}
}

// A transaction that fails at its very end has done nothing, and nobody was told.
func TestWhatIsNotCommittedIsNotPublished(t *testing.T) {
	t.Parallel()
	s, e := newServerWithBroker(t)
	ensureDeliveries(e)
	id := s.create(t, alice).ID
	d := s.deliver(t, id, 1)[0]
	s.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = '40001'; END $$`)
	s.exec(t, `CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON idempotency_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	path := allEndpoints + "/" + id.String() + "/deliveries/" + d.ID.String() + "/resend"
	for _, request := range [][2]string{{path, ""}, {allEndpoints, registration("x")}, {allEndpoints + "/" + id.String() + "/test", ""}} {
		if a := s.keyed(t, alice, "k", request[0], request[1]); a.status != 503 || a.header.Get("Retry-After") != "2" {
			t.Errorf("%s: %d %s", request[0], a.status, a.body)
		}
	}
	if n := len(again(e)); n != 0 {
		t.Errorf("%d deliveries published", n)
	}
	for _, line := range []string{"delivery resent", "endpoint tested"} {
		if strings.Contains(s.logs.String(), line) {
			t.Errorf("%q is logged", line)
		}
	}
	if n := s.count(t, `endpoints`) + s.count(t, `idempotency_keys`) + s.count(t, `deliveries WHERE trigger = 'resend'`) + s.count(t, `outbox`); n != 1 {
		t.Errorf("there are %d rows, want the one endpoint of before", n)
	}
	s.exec(t, `DROP TRIGGER refuse ON idempotency_keys`)
	if a := s.keyed(t, alice, "k", path, ""); a.status != 202 || len(again(e)) != 1 {
		t.Errorf("again: %d %s", a.status, a.body)
	}
}

func TestKeysWithTheDatabaseAway(t *testing.T) {
	t.Parallel()
	postgres := pgtest.NewServer(t)
	if err := migrations.Up(t.Context(), postgres.URL(), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s := serverOn(t, pool)
	a := s.keyed(t, alice, "k", allEndpoints, registration("x"))
	if err := postgres.StopNow(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"k", uuid.NewString()} {
		b := s.keyed(t, alice, key, allEndpoints, registration("x"))
		if b.status != 503 || b.header.Get("Retry-After") != "2" {
			t.Errorf("key %s: %d %s", key, b.status, b.body)
		}
		checkProblem(t, b)
	}
	if err := postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameAnswer(t, a, s.keyed(t, alice, "k", allEndpoints, registration("x")))
}
