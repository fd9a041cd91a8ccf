package endpoints

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/webjson"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	headerKey      = "Idempotency-Key"
	headerReplayed = "Idempotency-Replayed"
	// maxKeyBytes bounds a key, as the table does.
	maxKeyBytes = 255
	// keyAge is how long a key stands for its request: a client that asks again
	// after a day does not do so because of a lost answer.
	keyAge = 24 * time.Hour
	// forgetEvery is the pause between deletions of old keys, which nothing
	// waits for: a key that is met again after its time is free anyway.
	forgetEvery = 10 * time.Minute
	// forgetRows bounds what one statement deletes, and so how long it locks.
	forgetRows = 1_000
)

// keyParam and replayable are what the document says about it.
func keyParam() *huma.Param {
	one, most := 1, maxKeyBytes
	return &huma.Param{
		Name: headerKey, In: "header",
		Description: "Makes it safe to send the request again when its answer was lost: for 24 h, the same request with the same key gets the same answer and does nothing more. " +
			"Another request with the key gets 409. What was answered with an error leaves the key free. Printable ASCII without spaces; best a fresh UUID for each request.",
		Schema: &huma.Schema{
			Type: huma.TypeString, MinLength: &one, MaxLength: &most, Pattern: "^[!-~]+$",
			Examples: []any{"6f1c2b0e-5d5b-4a53-9a5e-0f5a4d1c7be2"},
		},
	}
}

func replayable() *huma.Response {
	return &huma.Response{Headers: map[string]*huma.Param{headerReplayed: {
		Description: "Is there if this is the answer to an earlier request with the same " + headerKey + ".",
		Schema:      &huma.Schema{Type: huma.TypeString, Enum: []any{"true"}, Examples: []any{"true"}},
	}}}
}

// errKeyTaken means that the key stands for another request.
var errKeyTaken = &conflictError{headerKey + ": stands for another request of yours for 24 h: take a fresh key for each request"}

// keyedKey is where readKey leaves a keyedRequest in the context, for once.
type keyedKey struct{}

// A keyedRequest is one that must be done once, however often it is made.
type keyedRequest struct {
	key    string
	hash   [sha256.Size]byte // of what makes it the same request
	header http.Header       // of its answer
}

// readKey reads the Idempotency-Key of a POST, after checkRequest has read the body.
func (a *API) readKey(hc huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(hc)
	values := r.Header.Values(headerKey)
	if r.Method != http.MethodPost || len(values) == 0 {
		next(hc)
		return
	}
	if err := checkKey(values); err != nil {
		webjson.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	var body []byte
	if hc.Operation().RequestBody != nil {
		body, _ = io.ReadAll(r.Body) // from memory
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	next(huma.WithValue(hc, keyedKey{}, keyedRequest{
		key: values[0], header: w.Header(),
		hash: requestHash(hc.Operation().OperationID, r.URL.EscapedPath(), r.URL.RawQuery, string(body)),
	}))
}

func checkKey(values []string) error {
	key := values[0]
	if len(values) > 1 {
		return invalid(headerKey, "must be there once")
	}
	if len(key) < 1 || len(key) > maxKeyBytes {
		return invalid(headerKey, fmt.Sprintf("must have 1 to %d characters", maxKeyBytes))
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return invalid(headerKey, "must be printable ASCII without spaces")
		}
	}
	return nil
}

// requestHash is the same for the same parts only.
func requestHash(parts ...string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, part := range parts {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part))) // a hash takes all
		_, _ = io.WriteString(h, part)
	}
	h.Sum(sum[:0])
	return sum
}

// once does what a request asks for. With an Idempotency-Key, that is one
// transaction together with keeping the answer, and a request that was answered
// already gets this again, as JSON of O, without any work: also if it came while
// the first was under way. If do fails, or what it returns can't be kept, nothing
// happened, and the key is free.
func once[O any](ctx context.Context, a *API, r route, user uuid.UUID, do func(context.Context) (*O, error)) (*O, error) {
	request, ok := ctx.Value(keyedKey{}).(keyedRequest)
	if !ok {
		return do(ctx)
	}
	var out *O
	outer := &outerTx{}
	err := pgx.BeginFunc(ctx, a.store.DB, func(tx pgx.Tx) error {
		outer.tx = tx
		q := db.New(tx)
		_, err := q.ClaimIdempotencyKey(ctx, db.ClaimIdempotencyKeyParams{
			UserID: user, Key: request.key, RequestHash: request.hash[:], MaxAge: keyAge.Seconds(),
		})
		if errors.Is(err, pgx.ErrNoRows) {
			out, err = replay[O](ctx, a, q, user, request)
			return err
		}
		if err != nil {
			return fmt.Errorf("claim idempotency key: %w", err)
		}
		if out, err = do(context.WithValue(ctx, outerKey{}, outer)); err != nil {
			return err
		}
		return a.keepAnswer(ctx, q, r.status, user, request, out)
	})
	if err != nil {
		return nil, err
	}
	for _, f := range outer.committed {
		f()
	}
	return out, nil
}

func (a *API) keepAnswer(ctx context.Context, q *db.Queries, status int, user uuid.UUID, request keyedRequest, out any) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // payloads in it stay as they are
	if err := e.Encode(out); err != nil {
		return fmt.Errorf("keep answer: %w", err)
	}
	sealed, err := a.store.Keyset.Seal(secrets.AnswerID(user, request.key), text.Bytes())
	if err != nil {
		return fmt.Errorf("%w: %w", errSecret, err)
	}
	if err := q.KeepAnswer(ctx, db.KeepAnswerParams{UserID: user, Key: request.key, Status: int32(status), Answer: sealed}); err != nil {
		return fmt.Errorf("keep answer: %w", err)
	}
	return nil
}

// replay returns the kept answer to the same request, or errKeyTaken.
func replay[O any](ctx context.Context, a *API, q *db.Queries, user uuid.UUID, request keyedRequest) (*O, error) {
	kept, err := q.KeptAnswer(ctx, db.KeptAnswerParams{UserID: user, Key: request.key})
	if err != nil {
		return nil, fmt.Errorf("read kept answer: %w", err)
	}
	if !bytes.Equal(kept.RequestHash, request.hash[:]) {
		return nil, errKeyTaken
	}
	text, err := a.store.Keyset.Open(secrets.AnswerID(user, request.key), kept.Answer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSecret, err)
	}
	out := new(O)
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("%w: kept answer: %w", errSecret, err)
	}
	request.header.Set(headerReplayed, "true")
	return out, nil
}

// forgetKeys deletes old keys now and then, until ctx ends.
func (a *API) forgetKeys(ctx context.Context) {
	ticker := time.NewTicker(forgetEvery)
	defer ticker.Stop()
	for {
		if err := a.forgetOldKeys(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn().Err(err).Msg("old idempotency keys not deleted")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// forgetOldKeys deletes all old keys, some at a time.
func (a *API) forgetOldKeys(ctx context.Context) error {
	for {
		statement, cancel := context.WithTimeout(ctx, queryTimeout)
		n, err := db.New(a.store.DB).ForgetOldKeys(statement, db.ForgetOldKeysParams{MaxAge: keyAge.Seconds(), MaxRows: forgetRows})
		cancel()
		if err != nil || n < forgetRows {
			return err
		}
	}
}
