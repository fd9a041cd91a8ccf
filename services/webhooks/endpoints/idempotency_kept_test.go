package endpoints

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/secrets/reseal"
	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// keyed registers an endpoint with an Idempotency-Key.
func (s *server) keyed(t testing.TB, user uuid.UUID, key string) answer {
	t.Helper()
	return s.call(t, user, "POST", "/api/webhooks", register1, "Idempotency-Key", key)
}

// sameAnswer says that b repeats a.
func sameAnswer(t testing.TB, a, b answer) {
	t.Helper()
	if b.status != a.status || b.body != a.body || b.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("first %d %s\nthen %d, replayed %q, %s", a.status, a.body, b.status, b.header.Get("Idempotency-Replayed"), b.body)
	}
}

// The limit holds however creations come: at once, and each with a key of its own.
func TestCreationsAtOnceWithKeysOfTheirOwnKeepTheLimit(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	statuses := make([]int, 50)
	var calls sync.WaitGroup
	for i := range statuses {
		calls.Go(func() { statuses[i] = s.keyed(t, alice, fmt.Sprint("key-", i)).status })
	}
	calls.Wait()
	by := make(map[int]int)
	for _, status := range statuses {
		by[status]++
	}
	made, kept := one[int](t, s, `SELECT count(*) FROM endpoints`), one[int](t, s, `SELECT count(*) FROM idempotency_keys`)
	if made != 5 || kept != 5 || by[http.StatusCreated] != 5 || by[http.StatusConflict] != 45 {
		t.Errorf("%d endpoints and %d keys, answered %v; want 5, 5, and 45 times 409", made, kept, by)
	}
}

// Of requests at once with one key one is done, and all get its answer.
func TestTwentyAtOnceWithOneKey(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	answers := make([]answer, 20)
	var calls sync.WaitGroup
	for i := range answers {
		calls.Go(func() { answers[i] = s.keyed(t, alice, "k") })
	}
	calls.Wait()
	for _, a := range answers {
		if a.status != http.StatusCreated || a.body != answers[0].body {
			t.Errorf("%d %s\nbut another got %d %s", a.status, a.body, answers[0].status, answers[0].body)
		}
	}
	list, err := s.Store().Secrets(t.Context(), decode[CreatedEndpoint](t, answers[0]).ID)
	if err != nil || len(list) != 1 || !strings.Contains(answers[0].body, list[0]) || one[int](t, s, `SELECT count(*) FROM endpoints`) != 1 {
		t.Errorf("the answer's secret is not that of the one endpoint: %d of them, %v", len(list), err)
	}
}

// What met the limit of endpoints has left nothing, and succeeds with the same key when there is room.
func TestAKeyOfWhatWasRefusedIsFree(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var last CreatedEndpoint
	for range 5 {
		last = s.create(t, alice)
	}
	for range 2 {
		if a := s.keyed(t, alice, "k"); a.status != http.StatusConflict || a.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("beyond the limit: %d %s", a.status, a.body)
		}
	}
	if n := one[int](t, s, `SELECT count(*) FROM idempotency_keys`); n != 0 {
		t.Errorf("%d keys are kept", n)
	}
	if a := s.call(t, alice, "DELETE", "/api/webhooks/"+last.ID.String(), nil); a.status != http.StatusNoContent {
		t.Fatal(a.status)
	}
	a := s.keyed(t, alice, "k")
	if a.status != http.StatusCreated {
		t.Fatalf("then: %d %s", a.status, a.body)
	}
	sameAnswer(t, a, s.keyed(t, alice, "k"))
}

// Through a rotation of the keyset, each process with the keyset that it has by then.
func TestKeptAnswersOpenAfterTheKeysetWasRotated(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	old := settings(t).EncryptionKeyset
	with := func(keyset string) *server {
		return serverSet(t, pool, func(c *Config) { c.EncryptionKeyset = keyset })
	}
	a := with(old).keyed(t, alice, "k")
	added, _, err := secrets.AddKey(old)
	if err != nil {
		t.Fatal(err)
	}
	promoted, _, err := secrets.PromoteKey(added)
	if err != nil {
		t.Fatal(err)
	}
	sameAnswer(t, a, with(promoted).keyed(t, alice, "k"))
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
	sameAnswer(t, a, with(pruned).keyed(t, alice, "k"))
	if b := with(old).keyed(t, alice, "k"); b.status != http.StatusInternalServerError {
		t.Errorf("without the key that seals it: %d %s", b.status, b.body)
	}
}

// A transaction that fails at its very end has done nothing, and nobody was told.
func TestWhatIsNotCommittedIsNotPublished(t *testing.T) {
	t.Parallel()
	s, e := newServerWithBroker(t)
	ensureDeliveries(e)
	id := s.create(t, alice).ID
	path := "/api/webhooks/" + id.String() + "/deliveries/" + s.deliver(t, id, 1)[0].ID.String() + "/resend"
	resend := func() answer { return s.call(t, alice, "POST", path, nil, "Idempotency-Key", "k") }
	s.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = '40001'; END $$`)
	s.exec(t, `CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON idempotency_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	a := resend()
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "2" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if n := len(again(e)); n != 0 || strings.Contains(s.logs.String(), "delivery resent") {
		t.Errorf("%d deliveries published: %s", n, s.logs)
	}
	s.exec(t, `DROP TRIGGER refuse ON idempotency_keys`)
	for range 2 {
		if a := resend(); a.status != http.StatusAccepted {
			t.Errorf("again: %d %s", a.status, a.body)
		}
	}
	if n := len(again(e)); n != 1 {
		t.Errorf("%d deliveries published, want one", n)
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
	a := s.keyed(t, alice, "k")
	if err := postgres.StopNow(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"k", uuid.NewString()} {
		b := s.keyed(t, alice, key)
		if b.status != http.StatusServiceUnavailable || b.header.Get("Retry-After") != "2" {
			t.Errorf("key %s: %d %s", key, b.status, b.body)
		}
		checkProblem(t, b)
	}
	if err := postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameAnswer(t, a, s.keyed(t, alice, "k"))
}

// An answer that is given again is free; what was refused for its rate left its key free.
func TestReplaysCostNothingOfTheRate(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	keyset := settings(t).EncryptionKeyset
	replica := func() *server {
		return serverSet(t, pool, func(c *Config) { c.EncryptionKeyset, c.CreateRate = keyset, 2 })
	}
	s := replica()
	first := s.keyed(t, alice, "first")
	sameAnswer(t, first, s.keyed(t, alice, "first"))
	if a := s.keyed(t, alice, "second"); a.status != http.StatusCreated {
		t.Fatalf("within the rate: %d %s", a.status, a.body)
	}
	for _, key := range []string{"third", "fourth"} {
		a := s.keyed(t, alice, key)
		checkProblem(t, a)
		if wait, err := strconv.Atoi(a.header.Get("Retry-After")); a.status != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 30 {
			t.Errorf("beyond the rate: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
		}
	}
	sameAnswer(t, first, s.keyed(t, alice, "first"))
	if a := replica().keyed(t, alice, "third"); a.status != http.StatusCreated || a.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("another replica: %d %s", a.status, a.body)
	}
	if n := one[int](t, s, `SELECT count(*) FROM endpoints`); n != 3 {
		t.Errorf("%d endpoints, want 3", n)
	}
}
