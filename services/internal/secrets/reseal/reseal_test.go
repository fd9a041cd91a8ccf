package reseal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// A world is a database with sealed rows, and what they must open to.
type world struct {
	t    testing.TB
	pool *pgxpool.Pool

	mu      sync.Mutex
	plain   map[string]string // by row: what its ciphertext, signing key or answer opens to
	expired map[uuid.UUID]bool
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{t: t, pool: pgtest.New(t), plain: map[string]string{}, expired: map[uuid.UUID]bool{}}
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Error(err) // the writer, which is no goroutine of a test, calls it too
	}
}

func (w *world) expect(row, plain string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plain[row] = plain
}

func (w *world) seal(k *secrets.Keyset, id uuid.UUID, row string) []byte {
	w.t.Helper()
	plain := "plaintext of " + row + uuid.NewString()
	sealed, err := k.Seal(id, []byte(plain))
	if err != nil {
		w.t.Error(err)
	}
	w.expect(row, plain)
	return sealed
}

func (w *world) endpoint() uuid.UUID {
	w.t.Helper()
	id := uuid.Must(uuid.NewV7())
	w.exec(`INSERT INTO endpoints (id, user_id, url, events) VALUES ($1, $2, 'https://receiver.example/', '{card.viewed}')`, id, uuid.New())
	return id
}

// secret adds a secret to an endpoint, every other one with a signing key.
func (w *world) secret(k *secrets.Keyset, endpoint uuid.UUID, withKey bool) uuid.UUID {
	w.t.Helper()
	id := uuid.Must(uuid.NewV7())
	var signingKey, publicKey []byte
	if withKey {
		signingKey, publicKey = w.seal(k, endpoint, fmt.Sprint("signing_key ", id)), make([]byte, 32)
	}
	w.exec(`INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext, signing_key, public_key) VALUES ($1, $2, $3, $4, $5)`,
		id, endpoint, w.seal(k, endpoint, fmt.Sprint("ciphertext ", id)), signingKey, publicKey)
	return id
}

func (w *world) answer(k *secrets.Keyset, user uuid.UUID, key string) {
	w.t.Helper()
	w.exec(`INSERT INTO idempotency_keys (user_id, key, request_hash, status, answer) VALUES ($1, $2, $3, 201, $4)`,
		user, key, make([]byte, 32), w.seal(k, secrets.AnswerID(user, key), fmt.Sprint("answer ", user, key)))
}

// check opens every row with a keyset and holds it against what was sealed. It
// returns how many values there were.
func (w *world) check(k *secrets.Keyset) (n int) {
	w.t.Helper()
	for _, s := range w.sealed() {
		plain, err := k.Open(s.id, s.ciphertext)
		if err != nil || string(plain) != w.plain[s.row] {
			w.t.Errorf("%s: %q, %v", s.row, plain, err)
		}
		n++
	}
	return n
}

type sealed struct {
	row        string
	id         uuid.UUID
	ciphertext []byte
}

func (w *world) sealed() (all []sealed) {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `
		SELECT 'ciphertext ' || id, endpoint_id, ciphertext, user_id, key FROM endpoint_secrets, (SELECT null::uuid AS user_id, null AS key) AS n
		UNION ALL SELECT 'signing_key ' || id, endpoint_id, signing_key, null, null FROM endpoint_secrets WHERE signing_key IS NOT NULL
		UNION ALL SELECT 'answer ' || user_id || key, null, answer, user_id, key FROM idempotency_keys`)
	if err != nil {
		w.t.Fatal(err)
	}
	for rows.Next() {
		var s sealed
		var endpoint, user *uuid.UUID
		var key *string
		if err := rows.Scan(&s.row, &endpoint, &s.ciphertext, &user, &key); err != nil {
			w.t.Fatal(err)
		}
		if endpoint != nil {
			s.id = *endpoint
		} else {
			s.id = secrets.AnswerID(*user, *key)
		}
		all = append(all, s)
	}
	if rows.Err() != nil {
		w.t.Fatal(rows.Err())
	}
	return all
}

func parse(t testing.TB, serialized string, err error) *secrets.Keyset {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	k, err := secrets.ParseKeyset(serialized)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestRotation goes all the way of a rotation, with an interruption and with
// somebody who creates, rotates and deletes meanwhile.
func TestRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, err := secrets.NewKeyset()
	old := parse(t, first, err)
	var endpoints []uuid.UUID
	for i := range 120 {
		endpoints = append(endpoints, w.endpoint())
		w.secret(old, endpoints[i], i%2 == 0)
		w.secret(old, endpoints[i], i%3 == 0)
		w.answer(old, endpoints[i], "a")
		w.answer(old, endpoints[i], "ключ \" '")
	}

	added, _, err := secrets.AddKey(first)
	if err != nil {
		t.Fatal(err)
	}
	promoted, primary, err := secrets.PromoteKey(added)
	between, now := parse(t, added, nil), parse(t, promoted, err)
	w.secret(between, endpoints[0], true) // by a service that has the new key, but does not yet seal with it
	usage, err := Count(t.Context(), w.pool)
	if err != nil || usage.Values() != len(w.sealed()) || usage.Without(old.Primary()).Values() != 0 {
		t.Fatalf("before: %v, %v", usage, err)
	}

	writer := w.busy(now, endpoints)
	ctx, cancel := context.WithCancel(t.Context())
	resealed := 0
	r := Resealer{DB: w.pool, Keyset: now, Batch: 7, pause: time.Millisecond, Progress: func(string, int) {
		if resealed++; resealed == 10 {
			cancel()
		}
	}}
	part, err := r.Run(ctx)
	if !errors.Is(err, context.Canceled) || part.Secrets == 0 {
		t.Fatalf("interrupted: %+v, %v", part, err)
	}
	left, err := Count(t.Context(), w.pool)
	if n := left.Without(primary).Values(); err != nil || n == 0 {
		t.Fatalf("after the interruption %d values are left under the old key, %v", n, err)
	}
	r.Progress = nil
	rest, err := r.Run(t.Context())
	if err != nil || rest.Secrets == 0 || rest.Answers == 0 {
		t.Fatalf("run again: %+v, %v", rest, err)
	}
	if n := writer(); n == 0 {
		t.Error("the writer did nothing")
	}

	usage, err = Count(t.Context(), w.pool)
	if err != nil || usage.Without(primary).Values() != 0 {
		t.Fatalf("after: %v, %v", usage, err)
	}
	last, removed, err := secrets.PruneKeys(promoted)
	pruned := parse(t, last, err)
	if len(removed) != 1 || removed[0] != old.Primary() {
		t.Errorf("pruned %v, want the old key", removed)
	}
	if n := w.check(pruned); n < 300 {
		t.Errorf("only %d values are left", n)
	}
	for id := range w.expired {
		var lost bool
		if err := w.pool.QueryRow(t.Context(), `SELECT bool_or(expires_at IS NULL) FROM endpoint_secrets WHERE id = $1`, id).Scan(&lost); err != nil || lost {
			t.Fatalf("secret %v: the end of its life is lost: %v", id, err)
		}
	}
	all := w.sealed()
	for i, s := range all {
		if _, err := old.Open(s.id, s.ciphertext); err == nil {
			t.Errorf("%s: opens with the old key", s.row)
		}
		if other := all[(i+7)%len(all)]; other.id != s.id {
			if _, err := pruned.Open(other.id, s.ciphertext); err == nil {
				t.Errorf("%s: opens in the place of %s", s.row, other.row)
			}
		}
	}
	if again, err := (Resealer{DB: w.pool, Keyset: pruned}).Run(t.Context()); err != nil || again != (Result{}) {
		t.Errorf("with nothing to do: %+v, %v", again, err)
	}
}

// busy does what the API does to secrets, on and on, until stop is called, which
// returns how often.
func (w *world) busy(k *secrets.Keyset, endpoints []uuid.UUID) (stop func() int) {
	done, counted := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { counted <- n }()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			endpoint := endpoints[i*31%len(endpoints)]
			if err := w.rotate(k, endpoint, i%4 == 3); err != nil {
				w.t.Error(err)
				return
			}
			w.answer(k, endpoint, fmt.Sprint("while ", i))
			n++
		}
	}()
	return func() int { close(done); return <-counted }
}

// rotate ends an endpoint's secrets or deletes them, and adds one.
func (w *world) rotate(k *secrets.Keyset, endpoint uuid.UUID, remove bool) error {
	ctx := w.t.Context()
	ended := map[uuid.UUID]bool{}
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if remove {
			return q.DeleteEndpointSecrets(ctx, endpoint)
		}
		if err := q.ExpireEndpointSecrets(ctx, db.ExpireEndpointSecretsParams{EndpointID: endpoint, Overlap: 3600}); err != nil {
			return err
		}
		rows, err := q.ActiveEndpointSecrets(ctx, endpoint)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if _, err := k.Open(endpoint, row.Ciphertext); err != nil {
				return err
			}
			ended[row.ID] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	for id := range ended {
		w.expired[id] = true
	}
	w.mu.Unlock()
	w.secret(k, endpoint, true)
	return nil
}

func TestRowsThatDoNotOpenAreLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, err := secrets.NewKeyset()
	old := parse(t, first, err)
	foreignSet, err := secrets.NewKeyset()
	foreign := parse(t, foreignSet, err)
	added, _, err := secrets.AddKey(first)
	if err != nil {
		t.Fatal(err)
	}
	promoted, _, err := secrets.PromoteKey(added)
	now := parse(t, promoted, err)

	mine, theirs, moved, broken := w.endpoint(), w.endpoint(), w.endpoint(), w.endpoint()
	w.secret(old, mine, true)
	w.answer(old, mine, "k")
	w.secret(foreign, theirs, true)
	w.answer(foreign, theirs, "k")
	id := w.secret(old, moved, false)
	w.exec(`UPDATE endpoint_secrets SET ciphertext = (SELECT ciphertext FROM endpoint_secrets WHERE endpoint_id = $1) WHERE id = $2`, mine, id)
	w.exec(`INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext) VALUES ($1, $2, 'abc')`, uuid.New(), broken)
	before := map[string][]byte{}
	for _, s := range w.sealed() {
		before[s.row] = s.ciphertext
	}

	res, err := Resealer{DB: w.pool, Keyset: now, Batch: 1, pause: time.Millisecond}.Run(t.Context())
	var failed *FailedError
	if !errors.As(err, &failed) || failed.Rows != 4 || res != (Result{Secrets: 1, Answers: 1}) {
		t.Fatalf("%+v, %v", res, err)
	}
	var missing *secrets.MissingKeyError
	if !errors.As(err, &missing) || missing.KeyID != foreign.Primary() || !strings.Contains(err.Error(), fmt.Sprintf("sealed with key %d", foreign.Primary())) {
		t.Errorf("does not name the missing key: %v", err)
	}
	for _, s := range w.sealed() {
		opens := s.id == mine || s.id == secrets.AnswerID(mine, "k")
		if changed := !bytes.Equal(s.ciphertext, before[s.row]); changed != opens {
			t.Errorf("%s: changed: %v, want %v", s.row, changed, opens)
		}
	}
	usage, err := Count(t.Context(), w.pool)
	if err != nil || usage.Without(now.Primary()).Values() != 5 {
		t.Errorf("left: %v, %v", usage, err)
	}
}

// TestLockedRowsComeLater: nobody is waited for, and nothing is left out.
func TestLockedRowsComeLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, err := secrets.NewKeyset()
	old := parse(t, first, err)
	added, _, err := secrets.AddKey(first)
	if err != nil {
		t.Fatal(err)
	}
	promoted, _, err := secrets.PromoteKey(added)
	now := parse(t, promoted, err)
	endpoint := w.endpoint()
	locked := w.secret(old, endpoint, false)
	w.secret(old, endpoint, false)

	tx, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `SELECT FROM endpoint_secrets WHERE id = $1 FOR UPDATE`, locked); err != nil {
		t.Fatal(err)
	}
	var progress []int
	res, err := Resealer{DB: w.pool, Keyset: now, pause: time.Millisecond, Progress: func(_ string, n int) {
		if progress = append(progress, n); len(progress) == 1 {
			if err := tx.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}}.Run(t.Context())
	if err != nil || res.Secrets != 2 || fmt.Sprint(progress) != "[1 2]" {
		t.Errorf("%+v, progress %v, %v", res, progress, err)
	}
	w.check(now)
}

func TestSomebodyStillSealsWithTheOldKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, err := secrets.NewKeyset()
	old := parse(t, first, err)
	added, _, err := secrets.AddKey(first)
	if err != nil {
		t.Fatal(err)
	}
	promoted, _, err := secrets.PromoteKey(added)
	now := parse(t, promoted, err)
	endpoint := w.endpoint()
	w.secret(old, endpoint, false)
	_, err = Resealer{DB: w.pool, Keyset: now, pause: time.Millisecond, Progress: func(string, int) {
		w.secret(old, endpoint, false)
	}}.Run(t.Context())
	if !errors.Is(err, ErrStillSealed) {
		t.Errorf("got %v", err)
	}
}

func TestWithoutADatabase(t *testing.T) {
	t.Parallel()
	first, err := secrets.NewKeyset()
	pool, err2 := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/nowhere")
	if err2 != nil {
		t.Fatal(err2)
	}
	t.Cleanup(pool.Close)
	if _, err := (Resealer{DB: pool, Keyset: parse(t, first, err)}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "re-seal rows of endpoint_secrets") {
		t.Errorf("got %v", err)
	}
	if _, err := Count(t.Context(), pool); err == nil {
		t.Error("counted in no database")
	}
}
