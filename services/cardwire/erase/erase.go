// Package erase removes what is there of one user: rows and messages.
package erase

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
)

const (
	// batch bounds the rows of a transaction.
	batch = 500
	// stepTimeout bounds a statement and a request to the broker.
	stepTimeout = 60 * time.Second
	// passes bounds how often it is looked whether fan-out wrote what it held already.
	passes = 5
)

// A Line says how much there is, or was removed, of something.
type Line struct {
	What string // a table, or messages of a stream
	N    int64
}

// An Eraser works on one database and one broker.
type Eraser struct {
	DB *pgxpool.Pool
	JS jetstream.JetStream
}

// viewer is what is removed of views of others' cards.
const viewer = "card_views of others, viewer forgotten"

// Count says what there is of a user, in the order in which it would be removed.
// It changes nothing. Of attempts, those are counted that were begun.
func (e Eraser) Count(ctx context.Context, user uuid.UUID) (lines []Line, err error) {
	count := func(what, sql string, into ...any) error {
		var n int64
		if len(into) == 0 {
			into = []any{&n}
		}
		ctx, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		if err := e.DB.QueryRow(ctx, sql, user).Scan(into...); err != nil {
			return fmt.Errorf("count %s: %w", what, err)
		}
		lines = append(lines, Line{what, n})
		return nil
	}
	for _, t := range sources {
		if err := count(t.name, t.count()); err != nil {
			return nil, err
		}
	}
	messages, err := e.messages(ctx, user, false)
	if err != nil {
		return nil, err
	}
	lines = append(lines, messages...)
	var deliveries, attempts int64
	if err := count("deliveries", countDeliveries, &deliveries, &attempts); err != nil {
		return nil, err
	}
	lines[len(lines)-1].N = deliveries
	lines = append(lines, Line{"attempts", attempts})
	for _, t := range append(records[:len(records):len(records)], endpoints) {
		if err := count(t.name, t.count()); err != nil {
			return nil, err
		}
	}
	return lines, count(viewer, countViewer)
}

// Erase removes a user and says what it removed, also when it fails: repeated,
// it goes on. What new events would come from goes first, what the rest is found by
// last. It is done once nothing of the user comes any more.
func (e Eraser) Erase(ctx context.Context, user uuid.UUID) (lines []Line, err error) {
	r := &report{}
	if _, err := e.DB.Exec(ctx, stopEndpoints, user); err != nil {
		return nil, fmt.Errorf("stop endpoints: %w", err)
	}
	for range passes {
		before := r.all()
		if err := e.pass(ctx, user, r); err != nil {
			return r.lines, err
		}
		if r.all() == before {
			err := e.deleteRows(ctx, user, endpoints, r)
			return r.lines, err
		}
	}
	return r.lines, errors.New("there is always more: does somebody publish events of this user? Stop that, and run this again")
}

// pass removes all but the endpoints.
func (e Eraser) pass(ctx context.Context, user uuid.UUID, r *report) error {
	for _, t := range sources {
		if err := e.deleteRows(ctx, user, t, r); err != nil {
			return err
		}
	}
	messages, err := e.messages(ctx, user, true)
	if err != nil {
		return err
	}
	for _, m := range messages {
		r.add(m.What, m.N)
	}
	if err := e.deleteDeliveries(ctx, user, r); err != nil {
		return err
	}
	for _, t := range records {
		if err := e.deleteRows(ctx, user, t, r); err != nil {
			return err
		}
	}
	return e.batches(ctx, user, viewer, forgetViewer, r)
}

func (e Eraser) deleteRows(ctx context.Context, user uuid.UUID, t table, r *report) error {
	return e.batches(ctx, user, t.name, t.delete(), r)
}

func (e Eraser) batches(ctx context.Context, user uuid.UUID, what, sql string, r *report) error {
	for {
		n, err := e.exec(ctx, sql, user)
		r.add(what, n)
		if err != nil {
			return fmt.Errorf("erase %s: %w", what, err)
		}
		if n < batch {
			return nil
		}
	}
}

func (e Eraser) exec(ctx context.Context, sql string, user uuid.UUID) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	tag, err := e.DB.Exec(ctx, sql, user, batch)
	return tag.RowsAffected(), err
}

func (e Eraser) deleteDeliveries(ctx context.Context, user uuid.UUID, r *report) error {
	one := func() (deliveries, attempts int64, err error) {
		ctx, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		err = e.DB.QueryRow(ctx, deleteDeliveries, user, batch).Scan(&deliveries, &attempts)
		return deliveries, attempts, err
	}
	for {
		deliveries, attempts, err := one()
		if err != nil {
			return fmt.Errorf("erase deliveries: %w", err)
		}
		r.add("deliveries", deliveries)
		r.add("attempts", attempts)
		if deliveries < batch {
			return nil
		}
	}
}

// messages counts the messages of a user in both streams, and purges them if
// asked to. A stream that is not there has none.
func (e Eraser) messages(ctx context.Context, user uuid.UUID, purge bool) ([]Line, error) {
	subjects := []string{streams.EventSubject(user, ">")}
	n, err := e.inStream(ctx, streams.Events, subjects, purge)
	if err != nil {
		return nil, err
	}
	rows, err := e.DB.Query(ctx, userEndpoints, user)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	defer rows.Close()
	subjects = nil
	var id uuid.UUID
	for rows.Next() {
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("list endpoints: %w", err)
		}
		subjects = append(subjects, streams.DeliverySubjects(id)...)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	m, err := e.inStream(ctx, streams.Deliveries, subjects, purge)
	return []Line{{"messages of " + streams.Events, n}, {"messages of " + streams.Deliveries, m}}, err
}

func (e Eraser) inStream(ctx context.Context, name string, subjects []string, purge bool) (all int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	s, err := e.JS.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", name, err)
	}
	for _, subject := range subjects {
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
		if err != nil {
			return all, fmt.Errorf("count messages of %s on %s: %w", name, subject, err)
		}
		var n int64
		for _, here := range info.State.Subjects {
			n += int64(here)
		}
		if purge && n > 0 {
			if err := s.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
				return all, fmt.Errorf("purge %s of %s: %w", name, subject, err)
			}
		}
		all += n
	}
	return all, nil
}

// A report sums up what was removed, in the order in which that was first heard of.
type report struct{ lines []Line }

func (r *report) add(what string, n int64) {
	for i := range r.lines {
		if r.lines[i].What == what {
			r.lines[i].N += n
			return
		}
	}
	r.lines = append(r.lines, Line{what, n})
}

func (r *report) all() (n int64) {
	for _, l := range r.lines {
		n += l.N
	}
	return n
}
