// Package replays is what a replay is: events of a range that are delivered once
// more. Whoever asks for one (the API, the command cardwire) and whoever works
// on one (services/webhooks/replay) meet here.
//
// # Where events come from
//
// A replay reads PostgreSQL's table of events and not the stream EVENTS. Each
// event that was fanned out is in the table, with its body, as long as
// deliveries are kept, and the deliverer reads bodies there: an event that only
// the stream has could not be sent. The table finds one user's events among a
// million of others by an index, in milliseconds, where a filtered read of the
// stream was measured at 50 to 650 events/s; and reading it leaves the broker to live
// traffic. What the stream has and the table has not is what fan-out has yet to
// read: it will.
//
// # Which deliveries are made
//
// An endpoint gets of a range what it asks for now. A replay to one endpoint does
// not ask how old that is; a replay to all leaves out events that are older
// than the endpoint, as fan-out does. Of a pair of event and endpoint, mode all
// makes a delivery in any case, missing if there is none, and failed if there are
// some and all of them, those of earlier replays too, were given up.
//
// A delivery's id is derived from event, endpoint and replay: no crash can make
// it twice.
package replays

import (
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/sql/db"
)

// Modes: which pairs of event and endpoint a replay is about.
const (
	Failed  = "failed"
	Missing = "missing"
	All     = "all"
)

// States of a replay.
const (
	Running   = "running"   // a process works on it, or will within moments
	Paused    = "paused"    // by somebody, or because its endpoint is disabled
	Cancelled = "cancelled" // for good; what it made stays
	Finished  = "finished"  // all events of the range are done
)

// Rates, in deliveries per second.
const (
	// DefaultRate leaves most of a small machine to live traffic, and is no flood
	// for a receiver that has just come back: 100,000 deliveries in 200 s.
	DefaultRate = 500
	// MaxRate is more than one process makes. More is no limit at all, which only
	// operators may ask for.
	MaxRate = 20_000
)

// A Replay is one as it is shown, by the API and by the command.
type Replay struct {
	ID           uuid.UUID  `json:"id" format:"uuid" doc:"Time-ordered id; receivers get it as webhook-replay." example:"01980e12-3c4d-7a5b-9c6d-7e8f90a1b2c3"`
	Actor        string     `json:"actor" maxLength:"128" doc:"Who asked for it: user: and a user's id, key: and the id of an API key, or cli: and a name." example:"user:00000000-0000-7000-8000-000000000001"`
	EndpointID   *uuid.UUID `json:"endpointId" nullable:"true" format:"uuid" doc:"The endpoint that gets the events; null: each that asks for them." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
	UserID       *uuid.UUID `json:"userId" nullable:"true" format:"uuid" doc:"Whose events; null: everybody's." example:"00000000-0000-7000-8000-000000000001"`
	Mode         string     `json:"mode" enum:"failed,missing,all" doc:"failed: what was given up. missing: what was never made. all: everything that the endpoint asks for." example:"failed"`
	Types        []string   `json:"types" nullable:"false" maxItems:"20" doc:"Only events of these types; empty: of all." example:"card.viewed"`
	Since        *time.Time `json:"since" doc:"Events of this time or later; null if the range is one of sequence numbers." example:"2026-08-02T14:00:00Z"`
	Until        *time.Time `json:"until" doc:"And before this time." example:"2026-08-02T16:00:00Z"`
	FromSequence *int64     `json:"fromSequence" minimum:"1" doc:"Events from this sequence number of the stream EVENTS on; null if the range is one of time." example:"1000"`
	ToSequence   *int64     `json:"toSequence" minimum:"1" doc:"And up to this one, which is included." example:"2000"`
	Rate         int32      `json:"rate" minimum:"0" maximum:"20000" doc:"Most deliveries per second; 0 is no limit." example:"500"`
	State        string     `json:"state" enum:"running,paused,cancelled,finished" doc:"running: goes on in the background. paused: until it is resumed. cancelled: for good. finished: all events are done." example:"running"`
	Reason       *string    `json:"reason" enum:"endpoint_disabled,endpoint_deleted" doc:"Why it was paused or cancelled, if nobody asked for that; else null." example:"endpoint_disabled"`
	Total        *int64     `json:"total" minimum:"0" doc:"Events of the range when it was asked for; null if they were too many to count at once." example:"12000"`
	Done         int64      `json:"done" minimum:"0" doc:"Events that it has done." example:"3000"`
	Made         int64      `json:"made" minimum:"0" doc:"Deliveries that it made." example:"1204"`
	Skipped      int64      `json:"skipped" minimum:"0" doc:"Pairs of event and endpoint that it left out, as the mode says." example:"1796"`
	Progress     float64    `json:"progress" minimum:"0" maximum:"1" doc:"How far it is, of 1: by the events done, or by their times if there is no total." example:"0.25"`
	SecondsLeft  *float64   `json:"secondsLeft" minimum:"0" doc:"About how much longer it runs, at the speed so far; null if it does not run, or has just begun." example:"18"`
	CreatedAt    time.Time  `json:"createdAt" doc:"When it was asked for." example:"2026-08-03T09:00:00.123456Z"`
	UpdatedAt    time.Time  `json:"updatedAt" doc:"When it last went on." example:"2026-08-03T09:00:06.345678Z"`
	FinishedAt   *time.Time `json:"finishedAt" doc:"When it finished or was cancelled; else null." example:"2026-08-03T09:00:24.345678Z"`
}

// shown is a row as it is shown.
func shown(r db.Replay) Replay {
	s := Replay{
		ID: r.ID, Actor: r.Actor, EndpointID: r.EndpointID, UserID: r.UserID, Mode: r.Mode, Types: r.Types,
		Since: utc(r.Since), Until: utc(r.Until), FromSequence: r.FromSeq, ToSequence: r.ToSeq,
		State: r.State, Reason: r.Reason, Total: r.Total, Done: r.Done, Made: r.Made, Skipped: r.Skipped,
		Progress: progress(r), CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(), FinishedAt: utc(r.FinishedAt),
	}
	if r.Rate != nil {
		s.Rate = *r.Rate
	}
	if took := r.UpdatedAt.Sub(r.CreatedAt).Seconds(); r.State == Running && s.Progress > 0 && took > 0 {
		left := took * (1 - s.Progress) / s.Progress
		s.SecondsLeft = &left
	}
	return s
}

// progress is 0 to 1. Events may have come since they were counted.
func progress(r db.Replay) float64 {
	switch {
	case r.State == Finished:
		return 1
	case r.Total != nil && *r.Total > 0:
		return min(float64(r.Done)/float64(*r.Total), 1)
	case r.Total != nil || r.Done == 0:
		return 0
	}
	from, to := moment(r.StartID), moment(r.EndID)
	if from >= to {
		return 0
	}
	return min(max((moment(r.At)-from)/(to-from), 0), 1)
}

// moment is the time of an id, in milliseconds.
func moment(id uuid.UUID) (ms float64) {
	for _, b := range id[:6] {
		ms = ms*256 + float64(b)
	}
	return ms
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
