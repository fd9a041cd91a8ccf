package endpoints

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/replays"
	"github.com/cardwire/cardwire/sql/db"
)

// dryRunTime bounds a dry run, within queryTimeout: some 50,000 events. The
// command cardwire takes the time that it needs.
const dryRunTime = 2 * time.Second

// startReplay writes what package replay then works off, or says what that would do.
func (a *API) startReplay(ctx context.Context, user uuid.UUID, in *startReplayInput) (*onceOutput[StartedReplay], error) {
	request, err := in.Body.request(callerOf(ctx, user))
	if err != nil {
		return nil, err
	}
	status := http.StatusAccepted
	if in.Body.DryRun {
		status = http.StatusOK
	}
	var started replays.Replay
	out, err := once(ctx, a, user, status, func(tx pgx.Tx) (s StartedReplay, err error) {
		if in.Body.DryRun {
			estimate, err := replays.DryRun(ctx, db.New(tx), request, dryRunTime)
			return StartedReplay{Estimate: &estimate}, err
		}
		started, err = replays.Start(ctx, tx, request)
		return StartedReplay{Replay: &started}, err
	})
	if err != nil {
		return nil, fmt.Errorf("start replay: %w", err)
	}
	if out.fresh() && !in.Body.DryRun {
		a.log.Info().Stringer("replay_id", started.ID).Str("actor", started.Actor).Str("mode", started.Mode).Msg("replay started")
	}
	return out, nil
}

func (a *API) replay(ctx context.Context, user uuid.UUID, in *ReplayPath) (*replayOutput, error) {
	r, err := replays.Store{DB: a.store.DB}.Get(ctx, callerOf(ctx, user).owner, uuid.UUID(in.ReplayID))
	if err != nil {
		return nil, err
	}
	return &replayOutput{r}, nil
}

func (a *API) replays(ctx context.Context, user uuid.UUID, in *replaysInput) (*replaysOutput, error) {
	scope, before := uuid.NewSHA1(user, []byte("replays")), uuid.Max
	if in.Cursor != "" {
		var err error
		if before, err = a.store.parseCursor(scope, in.Cursor); err != nil {
			return nil, err
		}
	}
	list, err := replays.Store{DB: a.store.DB}.List(ctx, callerOf(ctx, user).owner, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &replaysOutput{ReplayPage{Data: list[:min(len(list), in.Limit)]}}
	if len(list) > in.Limit {
		next, err := a.store.newCursor(scope, list[in.Limit-1].ID)
		if err != nil {
			return nil, err
		}
		out.Body.NextCursor = &next
	}
	return out, nil
}

// setReplay returns the handler that brings a replay into a state.
func (a *API) setReplay(state string) func(context.Context, uuid.UUID, *replayChangeInput) (*onceOutput[replays.Replay], error) {
	return func(ctx context.Context, user uuid.UUID, in *replayChangeInput) (*onceOutput[replays.Replay], error) {
		c := callerOf(ctx, user)
		out, err := once(ctx, a, user, http.StatusOK, func(tx pgx.Tx) (replays.Replay, error) {
			return replays.SetState(ctx, tx, c.owner, uuid.UUID(in.ReplayID), state, c.actor)
		})
		if err != nil {
			return nil, err
		}
		if out.fresh() {
			a.log.Info().Stringer("replay_id", uuid.UUID(in.ReplayID)).Str("actor", c.actor).Str("state", state).Msg("replay changed")
		}
		return out, nil
	}
}
