package events

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
)

// ErrNotAccepted says that the stream did not confirm the event: the broker is
// away, full, or its answer got lost. The event may or may not be stored.
// Publish it again with the same id: the stream and fan-out drop repeats.
var ErrNotAccepted = errors.New("event not accepted")

// A Publisher puts events on the stream. It is safe for concurrent use.
type Publisher struct {
	js jetstream.JetStream
}

// NewPublisher publishes over nc. The stream must exist; any Cardwire service
// creates it at start.
//
// Connect with nats.MaxReconnects(-1) and nats.ReconnectBufSize(-1): by default
// the client gives up after two minutes, and buffers what it can lose.
func NewPublisher(nc *nats.Conn, opts ...PublisherOption) (*Publisher, error) {
	js, err := streams.Open(nc)
	if err != nil {
		return nil, fmt.Errorf("make publisher: %w", err)
	}
	p := &Publisher{js: js}
	for _, opt := range opts {
		opt(p)
	}
	return p, nil
}

// A PublisherOption of [NewPublisher] is about how to publish.
type PublisherOption func(*Publisher)

// AtomicBatches has PublishBatch publish 20 events or more as atomic batches. It is
// for a broker with sync_interval: always, where they are stored 7 times as
// fast; with 1 s they only cost ([streams.Atomic]).
func AtomicBatches() PublisherOption { return func(p *Publisher) { p.js = streams.Atomic(p.js) } }

// Conn is the connection that it publishes over.
func (p *Publisher) Conn() *nats.Conn { return p.js.Conn() }

// Publish returns once the stream has stored the event, or ctx ends. If the
// broker does not answer within half a second, as when the leader of the stream is
// gone, it publishes the event again under its id. Errors
// are [ErrInvalid] (never publish it again; [ErrTooLarge] is one of them) or
// [ErrNotAccepted] (publish it again with the same id). A repeat is accepted and
// changes nothing.
func (p *Publisher) Publish(ctx context.Context, e Event) error {
	if err := e.Validate(); err != nil {
		return err
	}
	for {
		answered, cancel := context.WithTimeout(ctx, streams.AnswerWithin)
		_, err := p.js.PublishMsg(answered, e.Msg())
		silent := answered.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil {
			return nil
		}
		if !silent {
			return notAccepted(e, err)
		}
	}
}

// PublishBatch publishes many events, about a thousand per round trip. errs[i] is what
// Publish would have returned for batch[i]; ok says that all are nil. Events
// of one batch are stored in its order.
func (p *Publisher) PublishBatch(ctx context.Context, batch []Event) (errs []error, ok bool) {
	errs = make([]error, len(batch))
	msgs, at := make([]*nats.Msg, 0, len(batch)), make([]int, 0, len(batch))
	ok = true
	for i, e := range batch {
		if errs[i] = e.Validate(); errs[i] != nil {
			ok = false
			continue
		}
		msgs, at = append(msgs, e.Msg()), append(at, i)
	}
	published, all := streams.PublishAll(ctx, p.js, msgs)
	for j, err := range published {
		if err != nil {
			errs[at[j]] = notAccepted(batch[at[j]], err)
		}
	}
	return errs, ok && all
}

func notAccepted(e Event, err error) error {
	return fmt.Errorf("publish event %s: %w: %w", e.ID, ErrNotAccepted, err)
}
