// Package reseal brings what is sealed in PostgreSQL under the primary key of a
// keyset, while services go on sealing, opening and deleting.
package reseal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// MaxBatch is how many rows are locked by one transaction: a rotation or deletion of
	// an endpoint's secret waits for it, some tens of milliseconds.
	MaxBatch = 500
	// maxPasses bounds how often all tables are gone through. The second finds
	// what others had locked during the first; more are needed only if somebody
	// goes on sealing with another key.
	maxPasses = 5
	// passPause is between passes, for the others to finish what they hold.
	passPause = time.Second
)

// A Resealer re-seals rows. It may be stopped at any time and run again: what is
// done is done. Two at once do each row once.
type Resealer struct {
	DB     *pgxpool.Pool
	Keyset *secrets.Keyset
	Batch  int // rows per transaction; 0 is MaxBatch, which is also the most
	// Progress, unless nil, is called after each transaction with how many rows
	// of the table ("endpoint_secrets" or "idempotency_keys") were re-sealed so far.
	Progress func(table string, rows int)

	pause time.Duration // between passes; 0 is passPause
}

// Result is what a run did.
type Result struct {
	Secrets int // rows of endpoint_secrets re-sealed
	Answers int // rows of idempotency_keys re-sealed
}

// A FailedError are rows that could not be opened. They were left as they are.
type FailedError struct {
	Rows  int
	First error // why the first of them does not open
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("rows that could not be opened and were left as they are: %d; the first: %v", e.Rows, e.First)
}

// Unwrap returns why the first row does not open: often a [*secrets.MissingKeyError].
func (e *FailedError) Unwrap() error { return e.First }

// ErrStillSealed means that somebody goes on sealing with another key than the primary.
var ErrStillSealed = errors.New("rows under another key keep coming: a service still runs with a keyset in which that key seals; " +
	"give every service the promoted keyset, and run this again")

// Run re-seals every row that is sealed with another key than the primary, and
// ends when there are none. The result counts also if there is an error: ctx's or
// the database's, [*FailedError] for rows that don't open, or [ErrStillSealed].
func (r Resealer) Run(ctx context.Context) (res Result, err error) {
	for range maxPasses {
		failed := &FailedError{}
		if err := r.pass(ctx, &res, failed); err != nil {
			return res, err
		}
		usage, err := Count(ctx, r.DB)
		if err != nil {
			return res, err
		}
		switch left := usage.Without(r.Keyset.Primary()); {
		case left.Values() == 0:
			return res, nil
		// A row of endpoint_secrets has two values: so much may be left of what failed.
		case failed.Rows > 0 && left.Values() <= 2*failed.Rows:
			return res, failed
		}
		if err := retry.Sleep(ctx, cmp.Or(r.pause, passPause)); err != nil {
			return res, err
		}
	}
	return res, ErrStillSealed
}

func (r Resealer) pass(ctx context.Context, res *Result, failed *FailedError) error {
	if err := r.batches(ctx, "endpoint_secrets", &res.Secrets, failed, r.secrets()); err != nil {
		return err
	}
	return r.batches(ctx, "idempotency_keys", &res.Answers, failed, r.answers())
}

// A batch re-seals the next rows of a table in a transaction. It returns how many
// it saw, which is less than limit only at the end, and how many it re-sealed.
type batch func(ctx context.Context, q *db.Queries, limit int, failed *FailedError) (seen, done int, err error)

func (r Resealer) batches(ctx context.Context, table string, total *int, failed *FailedError, next batch) error {
	limit := r.Batch
	if limit <= 0 || limit > MaxBatch {
		limit = MaxBatch
	}
	for {
		var seen, done int
		var fails FailedError
		err := pgx.BeginFunc(ctx, r.DB, func(tx pgx.Tx) (err error) {
			seen, done, err = next(ctx, db.New(tx), limit, &fails)
			return err
		})
		if err != nil {
			return fmt.Errorf("re-seal rows of %s: %w", table, err)
		}
		if failed.First == nil {
			failed.First = fails.First
		}
		failed.Rows += fails.Rows
		*total += done
		if r.Progress != nil && done > 0 {
			r.Progress(table, *total)
		}
		if seen < limit {
			return nil
		}
	}
}

func (e *FailedError) add(err error) {
	if e.Rows++; e.First == nil {
		e.First = err
	}
}

// secrets goes through endpoint_secrets by id.
func (r Resealer) secrets() batch {
	after := uuid.Nil
	return func(ctx context.Context, q *db.Queries, limit int, failed *FailedError) (seen, done int, err error) {
		rows, err := q.SecretsUnderOtherKeys(ctx, db.SecretsUnderOtherKeysParams{After: after, Prefix: r.Keyset.Prefix(), MaxRows: int32(limit)})
		if err != nil || len(rows) == 0 {
			return 0, 0, err
		}
		var p db.ResealSecretsParams
		for _, row := range rows {
			ciphertext, err := r.reseal(row.EndpointID, row.Ciphertext)
			if err != nil {
				failed.add(fmt.Errorf("endpoint_secrets %v: ciphertext: %w", row.ID, err))
				continue
			}
			var signingKey []byte // null stays null
			if row.SigningKey != nil {
				if signingKey, err = r.reseal(row.EndpointID, row.SigningKey); err != nil {
					failed.add(fmt.Errorf("endpoint_secrets %v: signing_key: %w", row.ID, err))
					continue
				}
			}
			p.Ids, p.Ciphertexts, p.SigningKeys = append(p.Ids, row.ID), append(p.Ciphertexts, ciphertext), append(p.SigningKeys, signingKey)
		}
		after = rows[len(rows)-1].ID
		return len(rows), len(p.Ids), q.ResealSecrets(ctx, p)
	}
}

// answers goes through idempotency_keys by user and key.
func (r Resealer) answers() batch {
	afterUser, afterKey := uuid.Nil, ""
	return func(ctx context.Context, q *db.Queries, limit int, failed *FailedError) (seen, done int, err error) {
		rows, err := q.AnswersUnderOtherKeys(ctx, db.AnswersUnderOtherKeysParams{AfterUser: afterUser, AfterKey: afterKey, Prefix: r.Keyset.Prefix(), MaxRows: int32(limit)})
		if err != nil || len(rows) == 0 {
			return 0, 0, err
		}
		var p db.ResealAnswersParams
		for _, row := range rows {
			answer, err := r.reseal(secrets.AnswerID(row.UserID, row.Key), row.Answer)
			if err != nil {
				failed.add(fmt.Errorf("idempotency_keys of user %v: answer: %w", row.UserID, err))
				continue
			}
			p.UserIds, p.Keys, p.Answers = append(p.UserIds, row.UserID), append(p.Keys, row.Key), append(p.Answers, answer)
		}
		last := rows[len(rows)-1]
		afterUser, afterKey = last.UserID, last.Key
		return len(rows), len(p.Keys), q.ResealAnswers(ctx, p)
	}
}

func (r Resealer) reseal(id uuid.UUID, ciphertext []byte) ([]byte, error) {
	plaintext, err := r.Keyset.Open(id, ciphertext)
	if err != nil {
		return nil, err
	}
	return r.Keyset.Seal(id, plaintext)
}
