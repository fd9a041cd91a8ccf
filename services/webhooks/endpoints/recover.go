package endpoints

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

// startRecovery writes what package recovery then works off.
func (a *API) startRecovery(ctx context.Context, user uuid.UUID, in *recoverInput) (*onceOutput[Recovery], error) {
	endpointID := uuid.UUID(in.ID)
	var row db.Recovery
	out, err := once(ctx, a, user, http.StatusAccepted, func(tx pgx.Tx) (_ Recovery, err error) {
		row, err = insertRecovery(ctx, db.New(tx), user, endpointID, in.Body)
		return shownRecovery(row), err
	})
	if err != nil {
		return nil, fmt.Errorf("recover endpoint %v: %w", endpointID, err)
	}
	if out.fresh() {
		a.log.Info().Stringer("recovery_id", row.ID).Stringer("endpoint_id", endpointID).Stringer("user_id", user).
			Time("since", row.Since).Time("until", row.Until).Bool("missing", row.Missing).Msg("recovery started")
	}
	return out, nil
}

func insertRecovery(ctx context.Context, q *db.Queries, user, endpointID uuid.UUID, b RecoverBody) (row db.Recovery, err error) {
	if err := holdActive(ctx, q, user, endpointID); err != nil {
		return row, err
	}
	oldest, err := q.OldestKept(ctx)
	if err != nil {
		return row, fmt.Errorf("look up retention: %w", err)
	}
	since, until, err := recoveryRange(b, oldest, time.Now())
	if err != nil {
		return row, err
	}
	unfinished, err := q.UnfinishedRecovery(ctx, endpointID)
	switch {
	case err == nil:
		return row, &conflictError{fmt.Sprintf("recovery %v of this endpoint has not finished: wait for that", unfinished)}
	case !errors.Is(err, pgx.ErrNoRows):
		return row, fmt.Errorf("look for an unfinished one: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return row, fmt.Errorf("make id: %w", err)
	}
	row, err = q.InsertRecovery(ctx, db.InsertRecoveryParams{
		ID: id, EndpointID: endpointID, Since: since, Until: until, Missing: b.Missing, At: delivery.Floor(since),
	})
	if err != nil {
		return row, fmt.Errorf("insert: %w", err)
	}
	return row, audit(ctx, q, user, endpointID, "recovery.started", map[string]any{
		"recoveryId": id, "since": since, "until": until, "missing": b.Missing,
	})
}

// recoveryRange checks a range of time. It ends now at the latest.
func recoveryRange(b RecoverBody, oldest, now time.Time) (since, until time.Time, err error) {
	since, until = b.Since.UTC(), now.UTC()
	if b.Until != nil && b.Until.Before(now) {
		until = b.Until.UTC()
	}
	switch {
	case since.After(now):
		return since, until, invalid("since", "must not be in the future")
	case since.Before(oldest):
		return since, until, invalid("since", "must not be before "+oldest.UTC().Format(time.RFC3339)+": nothing older is kept")
	case !since.Before(until):
		return since, until, invalid("until", "must be after since")
	}
	return since, until, nil
}

func (a *API) recovery(ctx context.Context, user uuid.UUID, in *recoveryInput) (*recoveryOutput, error) {
	endpoint, err := a.store.Get(ctx, user, uuid.UUID(in.ID))
	if err != nil {
		return nil, err
	}
	row, err := db.New(a.store.DB).Recovery(ctx, db.RecoveryParams{ID: uuid.UUID(in.RecoveryID), EndpointID: endpoint.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errNoRecovery
	}
	if err != nil {
		return nil, fmt.Errorf("get recovery %v: %w", uuid.UUID(in.RecoveryID), err)
	}
	return &recoveryOutput{shownRecovery(row)}, nil
}

func (a *API) recoveries(ctx context.Context, user uuid.UUID, in *recoveriesInput) (*recoveriesOutput, error) {
	endpoint, err := a.store.Get(ctx, user, uuid.UUID(in.ID))
	if err != nil {
		return nil, err
	}
	rows, err := db.New(a.store.DB).ListRecoveries(ctx, db.ListRecoveriesParams{EndpointID: endpoint.ID, MaxRows: int32(in.Limit)})
	if err != nil {
		return nil, fmt.Errorf("list recoveries of endpoint %v: %w", endpoint.ID, err)
	}
	out := &recoveriesOutput{Body: make([]Recovery, len(rows))}
	for i, row := range rows {
		out.Body[i] = shownRecovery(row)
	}
	return out, nil
}

func shownRecovery(r db.Recovery) Recovery {
	status := "running"
	if r.FinishedAt != nil {
		status = "finished"
	}
	return Recovery{
		ID: r.ID, EndpointID: r.EndpointID, Since: r.Since.UTC(), Until: r.Until.UTC(), Missing: r.Missing,
		Status: status, Recovered: r.Recovered, CreatedAt: r.CreatedAt.UTC(), FinishedAt: utc(r.FinishedAt),
	}
}
