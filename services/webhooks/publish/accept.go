package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

// again is how every error ends after which the request may be repeated.
const again = "send it again with the same ids in " + retryAfter + " s; what was stored all the same does not change by that"

func notAccepted(what string) *fault {
	return &fault{status: http.StatusServiceUnavailable, rule: what + ": " + again}
}

// accept takes the events of a request as far as they go: each is then confirmed by the
// stream, or has a fault.
//
// An id is compared with what is known under it, in this order: rows of events, which
// are there from fan-out until retention ends; then the stream, which refuses an id
// for streams.EventsDedup after it took it, and says where that message is. Only if
// fan-out is further behind than that, a second body is accepted; fan-out then
// puts it into dead_events, as it does with what comes over NATS.
func (a *API) accept(ctx context.Context, items []*item) {
	for _, it := range items {
		a.check(it)
	}
	if err := a.known(ctx, items); err != nil {
		a.log.Error().Err(err).Msg("ids of events not checked")
		for _, it := range live(items) {
			if it.checked() {
				it.fault = notAccepted("the database does not answer")
			}
		}
	}
	a.publish(ctx, live(items))
}

// checked says whether the event's id may have been used before.
func (it *item) checked() bool { return it.id != uuid.Nil || it.name != nil }

// live are the items that can still be accepted and are not known yet.
func live(items []*item) (list []*item) {
	for _, it := range items {
		if it.fault == nil && !it.repeated {
			list = append(list, it)
		}
	}
	return list
}

// known gives named events their ids and finds those that have rows.
func (a *API) known(ctx context.Context, items []*item) error {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	q := db.New(a.pool)
	if err := resolveNames(ctx, q, live(items)); err != nil {
		return err
	}
	byID := make(map[uuid.UUID][]*item)
	var ids []uuid.UUID
	for _, it := range live(items) {
		if it.checked() {
			ids = append(ids, it.event.ID)
			byID[it.event.ID] = append(byID[it.event.ID], it)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	low, high := delivery.Bounds(ids)
	rows, err := q.StoredEvents(ctx, db.StoredEventsParams{Ids: ids, Low: low, High: high})
	if err != nil {
		return fmt.Errorf("read stored events: %w", err)
	}
	for _, row := range rows {
		for _, it := range byID[row.ID] {
			// Retention may have taken the body already.
			it.compared(row.UserID == it.user && row.Type == it.typ && (len(row.Body) == 0 || bytes.Equal(row.Body, it.event.Body)))
		}
	}
	return nil
}

// resolveNames looks up the ids of named events, and keeps those of new names.
func resolveNames(ctx context.Context, q *db.Queries, items []*item) error {
	byName := make(map[string][]*item)
	var p db.NameEventsParams
	for _, it := range items {
		if it.name == nil {
			continue
		}
		if byName[string(it.name)] == nil {
			p.Names = append(p.Names, it.name)
		}
		byName[string(it.name)] = append(byName[string(it.name)], it)
	}
	if len(p.Names) == 0 {
		return nil
	}
	slices.SortFunc(p.Names, bytes.Compare)
	for _, name := range p.Names {
		p.EventIds = append(p.EventIds, byName[string(name)][0].event.ID)
	}
	if _, err := q.NameEvents(ctx, p); err != nil {
		return fmt.Errorf("name events: %w", err)
	}
	rows, err := q.NamedEvents(ctx, p.Names)
	if err != nil {
		return fmt.Errorf("read names of events: %w", err)
	}
	for _, row := range rows {
		for _, it := range byName[string(row.Name)] {
			it.build(row.EventID)
		}
	}
	return nil
}

// compared notes that the id is known, with the same contents or others.
func (it *item) compared(same bool) {
	if same {
		it.repeated = true
		return
	}
	field := "id"
	if it.id == uuid.Nil && it.given == "" {
		field = headerKey
	}
	it.fault = &fault{status: http.StatusConflict, field: field, rule: "was used for another event: one id stands for one user, type, timestamp and data"}
}

// publish puts items on the stream.
func (a *API) publish(ctx context.Context, items []*item) {
	msgs := make([]*nats.Msg, len(items))
	for i, it := range items {
		msgs[i] = it.event.Msg()
	}
	acks, errs := streams.PublishAcks(ctx, a.js, msgs)
	var failed error
	var stream jetstream.Stream
	for i, it := range items {
		switch {
		case errs[i] != nil:
			failed = errs[i]
			it.fault = notAccepted("the broker did not confirm the event")
		case acks[i].Duplicate:
			if err := a.compareStored(ctx, &stream, it, msgs[i], acks[i].Sequence); err != nil {
				failed = err
				it.fault = notAccepted("the broker knows the id and did not say of which event")
			}
		}
	}
	if failed != nil {
		a.log.Warn().Err(failed).Int("events", len(items)).Msg("events not published")
	}
}

// compareStored compares an event with the message that took its id.
func (a *API) compareStored(ctx context.Context, stream *jetstream.Stream, it *item, msg *nats.Msg, seq uint64) (err error) {
	if *stream == nil {
		if *stream, err = a.js.Stream(ctx, streams.Events); err != nil {
			return fmt.Errorf("look up stream %s: %w", streams.Events, err)
		}
	}
	stored, err := (*stream).GetMsg(ctx, seq)
	if err != nil {
		return fmt.Errorf("read message %d of %s: %w", seq, streams.Events, err)
	}
	if stored.Header.Get(nats.MsgIdHdr) != it.event.ID.String() {
		return errors.New("another message has the number that the broker named")
	}
	it.compared(stored.Subject == msg.Subject && bytes.Equal(stored.Data, msg.Data))
	return nil
}
