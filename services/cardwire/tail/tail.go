// Package tail shows events and attempts as they happen: events from the stream,
// attempts from PostgreSQL, which is asked once a second.
package tail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/subscription"
	"github.com/cardwire/cardwire/sql/db"
)

// A Filter says what to show.
type Filter struct {
	User     uuid.UUID // uuid.Nil is all
	Endpoint uuid.UUID // of attempts; events are then not shown. uuid.Nil is all
	Type     string    // an event type or a pattern, see package subscription; empty is all
	Failed   bool      // attempts that failed or were cut off, and nothing else
}

// Check says what is wrong with it.
func (f Filter) Check() error {
	if f.Type != "" && !subscription.Wildcard(f.Type) && events.ValidateType(f.Type) != nil {
		return fmt.Errorf("--type: must be an event type, as in card.viewed, or a pattern, as in card.*, not %q", f.Type)
	}
	return nil
}

// subject is the filter of the stream.
func (f Filter) subject() string {
	user, eventType := "*", ">"
	if f.User != uuid.Nil {
		user = f.User.String()
	}
	if f.Type != "" {
		eventType = strings.TrimSuffix(f.Type, "*") // card.* is events.*.card.>
		if eventType != f.Type {
			eventType += ">"
		}
	}
	return "events." + user + "." + eventType
}

func (f Filter) wantsType(eventType string) bool {
	return f.Type == "" || f.Type == subscription.Every || f.Type == eventType || subscription.WantsType([]string{f.Type}, eventType)
}

// An Event of the stream.
type Event struct {
	Kind      string    `json:"kind"` // "event"
	At        time.Time `json:"at"`   // when the stream stored it
	Type      string    `json:"type"`
	ID        string    `json:"eventId"` // as its header says: what is no event is shown too
	UserID    string    `json:"userId"`
	StreamSeq uint64    `json:"streamSeq"`
	Bytes     int       `json:"bytes"` // of its body
}

// An Attempt that has ended.
type Attempt struct {
	Kind         string     `json:"kind"` // "attempt"
	At           time.Time  `json:"at"`   // when it ended
	Type         string     `json:"type"`
	EventID      uuid.UUID  `json:"eventId"`
	EndpointID   uuid.UUID  `json:"endpointId"`
	DeliveryID   uuid.UUID  `json:"deliveryId"`
	N            int32      `json:"n"`
	Outcome      string     `json:"outcome"` // success, failure or interrupted
	ResponseCode *int32     `json:"responseCode"`
	DurationMs   *int32     `json:"durationMs"`
	Error        *string    `json:"error"`
	Status       string     `json:"status"`        // of the delivery, now
	NextAttempt  *time.Time `json:"nextAttemptAt"` // if it is pending
}

// A Tail shows what happens from now on.
type Tail struct {
	DB     *pgxpool.Pool
	JS     jetstream.JetStream
	Filter Filter
	// Event and Attempt are called with what happens, one at a time each, and Ready
	// once nothing that happens from then on is missed.
	Event   func(Event)
	Attempt func(Attempt)
	Ready   func()
}

// Run shows until ctx ends, and then returns nil.
func (t Tail) Run(ctx context.Context) error {
	p := newPoller(db.New(t.DB), t.Filter)
	if err := p.begin(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if !t.Filter.Failed && t.Filter.Endpoint == uuid.Nil {
		messages, err := t.messages(ctx)
		if err != nil {
			return err
		}
		g.Go(func() error { return t.events(ctx, messages) })
	}
	g.Go(func() error { return p.run(ctx, t.Attempt) })
	t.Ready()
	return g.Wait()
}

func (t Tail) messages(ctx context.Context) (jetstream.MessagesContext, error) {
	c, err := t.JS.OrderedConsumer(ctx, streams.Events, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{t.Filter.subject()}, DeliverPolicy: jetstream.DeliverNewPolicy,
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("the broker has no stream %s: have the services been started?", streams.Events)
	}
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", streams.Events, err)
	}
	messages, err := c.Messages()
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", streams.Events, err)
	}
	return messages, nil
}

// events shows events until ctx ends. While the broker is away the client tries
// on, and then goes on where it was.
func (t Tail) events(ctx context.Context, messages jetstream.MessagesContext) error {
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	for {
		m, err := messages.Next()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, jetstream.ErrNoHeartbeat):
			continue
		case err != nil:
			return fmt.Errorf("read stream %s: %w", streams.Events, err)
		}
		e, ok := shown(m)
		if ok && t.Filter.wantsType(e.Type) {
			t.Event(e)
		}
	}
}

func shown(m jetstream.Msg) (Event, bool) {
	meta, err := m.Metadata()
	parts := strings.SplitN(m.Subject(), ".", 3)
	if err != nil || len(parts) < 3 {
		return Event{}, false
	}
	return Event{
		Kind: "event", At: meta.Timestamp.UTC(), Type: parts[2], UserID: parts[1], ID: m.Headers().Get(nats.MsgIdHdr),
		StreamSeq: meta.Sequence.Stream, Bytes: len(m.Data()),
	}, true
}
