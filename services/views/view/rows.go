package view

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/services/internal/sqlstate"
	"github.com/cardwire/cardwire/sql/db"
)

// sourceUnknown is the source of a view that another service published without one.
const sourceUnknown = "unknown"

// maxHash bounds a viewer hash, in bytes (card_views.viewer_hash).
const maxHash = 64

// A row is one row of card_views and the message that it is made of.
type row struct {
	msg   jetstream.Msg
	event events.Event
	data  viewed
}

// rowOf makes a row of an event. The error says why there is none and never
// will be.
func rowOf(e events.Event) (row, error) {
	var body struct {
		Data viewed `json:"data"`
	}
	// Any service may publish card.viewed: its data may be anything.
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return row{}, errors.New("body.data: must be {cardId, viewerId, username, source}, the ids UUIDs or null")
	}
	if body.Data.Source == "" {
		body.Data.Source = sourceUnknown
	}
	switch {
	case !validSource(body.Data.Source):
		return row{}, errors.New("body.data.source: must be 1 to 32 of a-z, 0-9, _ and -")
	case len(e.Attributes[attrHash]) > maxHash:
		return row{}, fmt.Errorf("attributes.%s: must be at most %d bytes", attrHash, maxHash)
	case len(e.Attributes[attrAgent]) > maxAgent:
		return row{}, fmt.Errorf("attributes.%s: must be at most %d bytes", attrAgent, maxAgent)
	}
	return row{event: e, data: body.Data}, nil
}

// writeRows writes the rows of a batch and acks its messages. What is no view is
// logged and Term'ed: fan-out reads the same message and keeps it among the dead
// events.
func (v *View) writeRows(ctx context.Context, msgs []jetstream.Msg) {
	rows := make([]row, 0, len(msgs))
	for _, m := range msgs {
		e, err := events.Decode(m.Subject(), m.Headers(), m.Data())
		if err != nil {
			v.refuse(m, err)
			continue
		}
		r, err := rowOf(e)
		if err != nil {
			v.refuse(m, err)
			continue
		}
		r.msg = m
		rows = append(rows, r)
	}
	if len(rows) > 0 {
		v.write(ctx, rows)
	}
}

// write inserts rows and then acks their messages: after the commit, never
// before.
//
// While the database is away it waits here, with the messages in hand, rather
// than nak them: hundreds of delayed naks hold up the broker's redelivery
// timer (measured), and with the messages in hand nothing more is fetched. Should
// the broker hand them to another replica too, that changes nothing:
// a known event is no second row. If ctx ends first they go back at once.
//
// Rows that the database refuses for what they say, which nothing above should
// let through, are found by writing each alone: one bad row must not hold up
// the stream.
func (v *View) write(ctx context.Context, rows []row) {
	var unfit error
	err := retry.Until(ctx, v.log, "card_views", func(ctx context.Context) error {
		err := v.insert(ctx, rows)
		if sqlstate.AboutData(err) {
			unfit, err = err, nil
		}
		return err
	})
	switch {
	case err != nil: // ctx has ended
		for _, r := range rows {
			_ = r.msg.Nak()
		}
	case unfit == nil:
		for _, r := range rows {
			_ = r.msg.Ack() // if this gets lost, the message comes again and changes nothing
		}
	case len(rows) == 1:
		v.refuse(rows[0].msg, unfit)
	default:
		for i := range rows {
			v.write(ctx, rows[i:i+1])
		}
	}
}

// insert writes rows in one statement. It is not cut off when the service
// stops: writeTimeout bounds it.
func (v *View) insert(ctx context.Context, rows []row) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	n := len(rows)
	p := db.InsertCardViewsParams{
		EventIds: make([]uuid.UUID, n), OwnerIds: make([]uuid.UUID, n), CardIds: make([]uuid.UUID, n), ViewerIds: make([]uuid.UUID, n),
		ViewerHashes: make([]string, n), UserAgents: make([]string, n), Sources: make([]string, n), ViewedAts: make([]time.Time, n),
	}
	for i, r := range rows {
		p.EventIds[i], p.OwnerIds[i] = r.event.ID, r.event.UserID
		p.CardIds[i], p.ViewerIds[i] = orNil(r.data.CardID), orNil(r.data.ViewerID)
		p.ViewerHashes[i], p.UserAgents[i] = r.event.Attributes[attrHash], r.event.Attributes[attrAgent]
		p.Sources[i], p.ViewedAts[i] = r.data.Source, r.event.Time
	}
	if err := v.db.InsertCardViews(ctx, p); err != nil {
		return fmt.Errorf("insert %d view rows: %w", n, err)
	}
	return nil
}

// refuse ends a message that can never become a row.
func (v *View) refuse(m jetstream.Msg, reason error) {
	line := v.log.Warn().Err(reason).Str("event_id", bounded(m.Headers().Get(nats.MsgIdHdr)))
	if meta, err := m.Metadata(); err == nil {
		line.Uint64("stream_seq", meta.Sequence.Stream)
	}
	line.Msg("view row refused")
	_ = m.TermWithReason(reason.Error())
}

// bounded is as much of what a stranger wrote as a log line takes: a UUID.
func bounded(s string) string { return s[:min(len(s), 36)] }

func orNil(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}
