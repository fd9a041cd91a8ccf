package endpoints

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/clientrate"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	headerKey = "Idempotency-Key"
	// maxKey bounds a key, in characters (idempotency_keys.key).
	maxKey = 255
	// pruneEvery is the pause between deletions of old answers. They are 24 h old; a minute more is nothing.
	pruneEvery = time.Minute
	// pruneRows bounds one deletion, so that it locks little and for a moment.
	pruneRows = 1000
)

// errKeyUsed means that a key was used for another request.
var errKeyUsed = &conflictError{headerKey + ": was used within the last 24 h for another request: take a new one"}

// KeyHeader is the part of a POST that makes it safe to repeat. It is read by
// checkRequest, and stands in inputs for the document.
type KeyHeader struct {
	Key string `header:"Idempotency-Key" maxLength:"255" doc:"Makes it safe to repeat the request: whatever has the same key within 24 h is answered as the first was and does nothing more, or with 409 if it is another request. 1 to 255 printable ASCII characters without spaces, best a fresh UUID." example:"3f2b8f2e-6f0a-4d0e-9a53-0d6ab2a3c1de"`
}

// A onceOutput is the answer to a POST, now or for its repeat.
type onceOutput[T any] struct {
	Status   int
	Replayed string `header:"Idempotency-Replayed" doc:"true if this is the answer that an earlier request with the same Idempotency-Key got." enum:"true" example:"true"`
	Body     Reply[T]
}

// fresh says whether the work was done for this request.
func (o *onceOutput[T]) fresh() bool { return o.Replayed == "" }

// A Reply is a T as JSON, the same bytes each time.
type Reply[T any] struct{ raw []byte }

// MarshalJSON returns the bytes.
func (r Reply[T]) MarshalJSON() ([]byte, error) { return r.raw, nil }

// Schema is that of a T.
func (Reply[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

// A keyedRequest is what checkRequest found out about a POST.
type keyedRequest struct {
	key   string // empty: it has none
	hash  [sha256.Size]byte
	limit *clientrate.Keyed[uuid.UUID] // of its route
}

type keyedRequestKey struct{}

// readKey checks and reads the Idempotency-Key of a POST, and hashes what makes
// two requests the same: method, path with query, and body. The error is an
// *invalidError.
func readKey(r *http.Request, body []byte) (keyedRequest, error) {
	values := r.Header.Values(headerKey)
	switch {
	case len(values) == 0:
		return keyedRequest{}, nil
	case len(values) > 1:
		return keyedRequest{}, invalid(headerKey, "must be there once")
	case len(values[0]) < 1 || len(values[0]) > maxKey:
		return keyedRequest{}, invalid(headerKey, fmt.Sprintf("must have 1 to %d characters", maxKey))
	}
	for i := range len(values[0]) {
		if c := values[0][i]; c <= ' ' || c > '~' {
			return keyedRequest{}, invalid(headerKey, "must be printable ASCII without spaces")
		}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n", r.Method, r.URL.RequestURI())
	h.Write(body)
	k := keyedRequest{key: values[0]}
	h.Sum(k.hash[:0])
	return k, nil
}

// once does the work of a POST in one transaction and answers it with status and
// what work returns. If the request has an Idempotency-Key, the answer is kept
// with it in the same transaction: for 24 h, requests of the same user with the
// same key get it again and do nothing, or errKeyUsed if they differ. Those that
// come meanwhile wait. What fails keeps nothing. Work costs one request of the
// user's rate, an answer that is given again none: beyond it, the error is a *rateError.
func once[T any](ctx context.Context, a *API, user uuid.UUID, status int, work func(pgx.Tx) (T, error)) (*onceOutput[T], error) {
	request, _ := ctx.Value(keyedRequestKey{}).(keyedRequest)
	out := &onceOutput[T]{Status: status}
	if request.key == "" { // a flood of these must not reach the database
		if err := a.spend(request.limit, user); err != nil {
			return nil, err
		}
	}
	err := pgx.BeginFunc(ctx, a.store.DB, func(tx pgx.Tx) error {
		q := db.New(tx)
		if request.key != "" {
			before, err := a.answered(ctx, q, user, request)
			if err != nil {
				return err
			}
			if before != nil {
				out.Status, out.Body.raw, out.Replayed = int(before.Status), before.Answer, "true"
				return nil
			}
			if err := a.spend(request.limit, user); err != nil {
				return err
			}
		}
		value, err := work(tx)
		if err != nil {
			return err
		}
		if out.Body.raw, err = plainJSON(value); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		if request.key == "" {
			return nil
		}
		return a.keepAnswer(ctx, q, user, request, status, out.Body.raw)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// answered returns what a key was answered, with the answer in the clear, or nil.
// From here to the end of the transaction it has the key to itself.
func (a *API) answered(ctx context.Context, q *db.Queries, user uuid.UUID, r keyedRequest) (*db.IdempotentAnswerRow, error) {
	if err := q.LockIdempotencyKey(ctx, db.LockIdempotencyKeyParams{UserID: user, Key: r.key}); err != nil {
		return nil, fmt.Errorf("lock idempotency key: %w", err)
	}
	before, err := q.IdempotentAnswer(ctx, db.IdempotentAnswerParams{UserID: user, Key: r.key})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look up idempotency key: %w", err)
	case !bytes.Equal(before.RequestHash, r.hash[:]):
		return nil, errKeyUsed
	}
	if before.Answer, err = a.store.Keyset.Open(secrets.AnswerID(user, r.key), before.Answer); err != nil {
		return nil, fmt.Errorf("%w: %w", errSecret, err)
	}
	return &before, nil
}

func (a *API) keepAnswer(ctx context.Context, q *db.Queries, user uuid.UUID, r keyedRequest, status int, answer []byte) error {
	sealed, err := a.store.Keyset.Seal(secrets.AnswerID(user, r.key), answer)
	if err != nil {
		return fmt.Errorf("%w: %w", errSecret, err)
	}
	err = q.SaveIdempotentAnswer(ctx, db.SaveIdempotentAnswerParams{
		UserID: user, Key: r.key, RequestHash: r.hash[:], Status: int32(status), Answer: sealed,
	})
	if err != nil {
		return fmt.Errorf("keep answer: %w", err)
	}
	return nil
}

// plainJSON is v as huma writes it: without the escapes for HTML.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// pruneAnswers deletes answers that are older than 24 h, until ctx ends. Any
// number of replicas may do so at once.
func (a *API) pruneAnswers(ctx context.Context) {
	for {
		if err := a.pruneOnce(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn().Err(err).Msg("old answers not deleted")
		}
		if retry.Sleep(ctx, pruneEvery) != nil {
			return
		}
	}
}

// pruneOnce deletes what there is, in batches.
func (a *API) pruneOnce(ctx context.Context) error {
	for {
		bounded, cancel := context.WithTimeout(ctx, queryTimeout)
		n, err := db.New(a.store.DB).PruneIdempotencyKeys(bounded, pruneRows)
		cancel()
		if err != nil || n < pruneRows {
			return err
		}
	}
}
