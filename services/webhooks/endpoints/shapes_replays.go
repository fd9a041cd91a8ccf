package endpoints

import (
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/replays"
)

// ReplayPath is the part of a path that names a replay.
type ReplayPath struct {
	ReplayID ID `path:"replayId" format:"uuid" doc:"Id of the replay." example:"01980e12-3c4d-7a5b-9c6d-7e8f90a1b2c3"`
}

type replayChangeInput struct {
	KeyHeader
	ReplayPath
}

type startReplayInput struct {
	KeyHeader
	Body ReplayBody
}

// ReplayBody says what to deliver once more.
type ReplayBody struct {
	EndpointID   *ID        `json:"endpointId,omitempty" format:"uuid" doc:"The endpoint that gets the events, however new it is; it gets what it asks for now. Operators may leave it out: then each endpoint gets what it asks for, of events that are not older than it is." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
	UserID       *ID        `json:"userId,omitempty" format:"uuid" doc:"Whose events. Only for operators; missing: everybody's, or those of the endpoint's owner." example:"00000000-0000-7000-8000-000000000001"`
	Mode         string     `json:"mode,omitempty" enum:"failed,missing,all" default:"failed" doc:"failed: what was given up, and not delivered since. missing: what was never made. all: everything." example:"failed"`
	Types        []string   `json:"types,omitempty" nullable:"false" maxItems:"20" doc:"Only events of these types; missing or empty: of all." example:"card.viewed"`
	Since        *time.Time `json:"since,omitempty" doc:"Events of this time (RFC 3339) or later; not before what is kept. Required, unless the range is one of sequence numbers." example:"2026-08-02T14:00:00Z"`
	Until        *time.Time `json:"until,omitempty" doc:"And before this time; now, if that is missing or later." example:"2026-08-02T16:00:00Z"`
	FromSequence int64      `json:"fromSequence,omitempty" minimum:"1" doc:"Instead of times: events from this sequence number of the stream EVENTS on. Only for operators." example:"1000"`
	ToSequence   int64      `json:"toSequence,omitempty" minimum:"1" doc:"And up to this one, which is included." example:"2000"`
	Rate         *int32     `json:"rate,omitempty" minimum:"0" maximum:"20000" doc:"Most deliveries to make per second; 500, if it is missing. 0 is no limit, for operators only." example:"500"`
	DryRun       bool       `json:"dryRun,omitempty" doc:"Whether to say only what it would do." example:"false"`
}

// TransformSchema makes the example one of an owner.
func (ReplayBody) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Examples = []any{map[string]any{
		"endpointId": "01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35", "mode": "failed",
		"since": "2026-08-02T14:00:00Z", "until": "2026-08-02T16:00:00Z", "dryRun": true,
	}}
	return s
}

// request is what a caller asks for.
func (b ReplayBody) request(c caller) (replays.Request, error) {
	r := replays.Request{
		Actor: c.actor, Owner: c.owner, EndpointID: (*uuid.UUID)(b.EndpointID), UserID: (*uuid.UUID)(b.UserID),
		Mode: b.Mode, Types: b.Types, Since: b.Since, Until: b.Until, FromSeq: b.FromSequence, ToSeq: b.ToSequence, Rate: b.Rate,
	}
	switch {
	case c.owner == nil:
		return r, nil
	case b.UserID != nil:
		return r, invalid("userId", "is for operators only")
	case b.FromSequence != 0:
		return r, invalid("fromSequence", "is for operators only")
	case b.ToSequence != 0:
		return r, invalid("toSequence", "is for operators only")
	}
	return r, nil
}

// StartedReplay is the answer to who asks for a replay, or for a dry run of one.
type StartedReplay struct {
	Replay   *replays.Replay   `json:"replay,omitempty" doc:"The replay that has begun; missing for a dry run."`
	Estimate *replays.Estimate `json:"estimate,omitempty" doc:"What a replay would do, by a dry run; else it is missing."`
}

type replayOutput struct {
	Body replays.Replay
}

type replaysInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"Most replays to return." example:"20"`
	Cursor string `query:"cursor" maxLength:"128" doc:"nextCursor of the page before." example:"AXH1J2kZb0"`
}

// A ReplayPage is a page of replays.
type ReplayPage struct {
	Data       []replays.Replay `json:"data" nullable:"false" maxItems:"100" doc:"The replays, newest first."`
	NextCursor *string          `json:"nextCursor" maxLength:"128" doc:"Where the next page begins, or null if this is the last."`
}

// TransformSchema makes the example one of a last page.
func (ReplayPage) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exampleNull(s, "nextCursor")
}

type replaysOutput struct {
	Body ReplayPage
}
