package replays

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

// maxTypes bounds the types of a replay: who wants more wants all.
const maxTypes = 20

// A Request is what somebody asks for. A range is of times or of sequence
// numbers, not of both.
type Request struct {
	Actor      string     // "user:<id>", "key:<id>" or "cli:<name>"
	Owner      *uuid.UUID // who may only replay to endpoints of theirs; nil: an operator
	EndpointID *uuid.UUID // nil: all that match
	UserID     *uuid.UUID // whose events; nil: everybody's, or those of the endpoint's owner
	Mode       string
	Types      []string // none: all
	Since      *time.Time
	Until      *time.Time // not included; nil: now
	FromSeq    int64      // 0: the range is one of times
	ToSeq      int64      // included
	Rate       *int32     // deliveries per second; nil: DefaultRate; 0: no limit, for operators
}

// An InvalidError is a request that breaks a rule. Its text names field and rule.
type InvalidError struct{ Field, Rule string }

func (e *InvalidError) Error() string { return e.Field + ": " + e.Rule }

func invalid(field, rule string, args ...any) error {
	return &InvalidError{field, fmt.Sprintf(rule, args...)}
}

// Errors of what can't be done now.
var (
	// ErrNotFound means that there is no such replay, or that it is somebody else's.
	ErrNotFound = errors.New("no such replay")
	// ErrNoEndpoint means that there is no such endpoint, or that it is somebody else's.
	ErrNoEndpoint = errors.New("no such endpoint")
	// ErrInactive means that the endpoint is disabled.
	ErrInactive = errors.New("the endpoint is disabled")
)

// An OverlapError is a request for a replay while another has not ended that may
// deliver the same events to the same endpoints.
type OverlapError struct{ ID uuid.UUID }

func (e *OverlapError) Error() string {
	return fmt.Sprintf("replay %v of some of these events has not ended: wait for that, or cancel it", e.ID)
}

// check holds a request to what needs no database.
func (r *Request) check(now time.Time) error {
	switch {
	case !slices.Contains([]string{Failed, Missing, All}, r.Mode):
		return invalid("mode", "must be failed, missing or all")
	case len(r.Types) > maxTypes:
		return invalid("types", "must have at most %d entries", maxTypes)
	case r.Owner != nil && r.EndpointID == nil:
		return invalid("endpointId", "is required")
	case r.Rate != nil && (*r.Rate < 0 || *r.Rate > MaxRate):
		return invalid("rate", "must be 1 to %d", MaxRate)
	case r.Rate != nil && *r.Rate == 0 && r.Owner != nil:
		return invalid("rate", "must be at least 1")
	}
	for i, t := range r.Types {
		if err := events.ValidateType(t); err != nil {
			return invalid(fmt.Sprintf("types[%d]", i), "must be an event type, such as %s", events.CardViewed)
		}
	}
	return r.checkRange(now)
}

func (r *Request) checkRange(now time.Time) error {
	if r.FromSeq != 0 || r.ToSeq != 0 {
		switch {
		case r.Since != nil || r.Until != nil:
			return invalid("fromSequence", "must not be there with since or until: a range is of times or of sequence numbers")
		case r.FromSeq < 1:
			return invalid("fromSequence", "must be at least 1")
		case r.ToSeq < r.FromSeq:
			return invalid("toSequence", "must not be before fromSequence")
		}
		return nil
	}
	if r.Until == nil || r.Until.After(now) {
		r.Until = &now
	}
	switch {
	case r.Since == nil:
		return invalid("since", "is required")
	case r.Since.After(now):
		return invalid("since", "must not be in the future")
	case !r.Since.Before(*r.Until):
		return invalid("until", "must be after since")
	}
	return nil
}

// resolve checks a request against the database, and returns the row that it
// makes, but for its id and what only an insert knows.
func (r *Request) resolve(ctx context.Context, q *db.Queries, now time.Time) (row db.Replay, err error) {
	if err := r.check(now); err != nil {
		return row, err
	}
	row = db.Replay{
		Actor: r.Actor, EndpointID: r.EndpointID, UserID: r.UserID, Mode: r.Mode, Types: r.Types,
		Since: utc(r.Since), Until: utc(r.Until), Rate: r.Rate, State: Running,
	}
	if row.Types == nil {
		row.Types = []string{}
	}
	switch {
	case row.Rate == nil:
		rate := int32(DefaultRate)
		row.Rate = &rate
	case *row.Rate == 0:
		row.Rate = nil
	}
	if err := r.resolveEndpoint(ctx, q, &row); err != nil {
		return row, err
	}
	if r.Since == nil {
		row.FromSeq, row.ToSeq = &r.FromSeq, &r.ToSeq
		err = resolveSequences(ctx, q, &row)
	} else {
		err = resolveTimes(ctx, q, &row)
	}
	row.At = previous(row.StartID)
	return row, err
}

func (r *Request) resolveEndpoint(ctx context.Context, q *db.Queries, row *db.Replay) error {
	if r.EndpointID == nil {
		return nil
	}
	e, err := q.ReplayEndpoint(ctx, *r.EndpointID)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && (e.Deleted || r.Owner != nil && e.UserID != *r.Owner):
		return ErrNoEndpoint
	case err != nil:
		return fmt.Errorf("look up endpoint %v: %w", *r.EndpointID, err)
	case r.UserID != nil && e.UserID != *r.UserID:
		return invalid("userId", "must be the endpoint's owner, if it is there")
	case !e.IsActive:
		return ErrInactive
	}
	row.UserID = &e.UserID
	return nil
}

func resolveTimes(ctx context.Context, q *db.Queries, row *db.Replay) error {
	oldest, err := q.OldestKept(ctx)
	if err != nil {
		return fmt.Errorf("look up retention: %w", err)
	}
	if row.Since.Before(oldest) {
		return invalid("since", "must not be before %s: nothing older is kept", oldest.UTC().Format(time.RFC3339))
	}
	row.StartID, row.EndID = delivery.Floor(*row.Since), delivery.Floor(*row.Until)
	return nil
}

// resolveSequences finds the ids that a range of sequence numbers lies between:
// none, if there is no such event.
func resolveSequences(ctx context.Context, q *db.Queries, row *db.Replay) error {
	b, err := q.SequenceBounds(ctx, db.SequenceBoundsParams{FromSeq: *row.FromSeq, ToSeq: *row.ToSeq})
	if errors.Is(err, pgx.ErrNoRows) {
		return invalid("fromSequence", "no event with a sequence number of %d to %d is kept", *row.FromSeq, *row.ToSeq)
	}
	if err != nil {
		return fmt.Errorf("look up sequence numbers: %w", err)
	}
	row.StartID, row.EndID = b.First, next(b.Last)
	return nil
}

// next is the id after another, and previous the one before.
func next(id uuid.UUID) uuid.UUID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}

func previous(id uuid.UUID) uuid.UUID {
	if bytes.Equal(id[:], uuid.Nil[:]) {
		return id
	}
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]--; id[i] != 0xff {
			break
		}
	}
	return id
}
