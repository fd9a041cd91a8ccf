// Package consume reads a durable consumer in batches, for as long as the
// service runs: through broker restarts, and through streams and consumers
// that vanish and are made again.
package consume

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/retry"
)

// A Source is what to read and how.
type Source struct {
	Stream   jetstream.StreamConfig
	Consumer jetstream.ConsumerConfig

	MaxBatch int // bounds a batch, in messages
	// Linger is how long a batch waits for more after its first message; 0 is not
	// at all. For work that nobody waits for: fewer, larger batches cost less.
	Linger time.Duration
}

const (
	// heartbeat is how soon a silent broker is noticed: after two of them.
	heartbeat = 5 * time.Second
	// maxFetch bounds one fetch, in bytes. The broker cuts off a client that it
	// has 64 MB for (max_pending), which 256 events of 256 KiB are; and what it
	// then sent in vain comes again only after its ack wait.
	maxFetch = 8 << 20
	// maxHeld bounds what was fetched and not yet handed over, in bytes: two
	// fetches. Messages are counted by MaxBatch, which would be 125 MiB of the largest.
	maxHeld = 2 * maxFetch
	// lookTimeout bounds the look whether a consumer is still there. What it does
	// not find out the heartbeats tell.
	lookTimeout = 3 * time.Second
	// connectionPoll is how often a reader looks whether the broker is back.
	connectionPoll = 50 * time.Millisecond
)

// Batches makes sure that stream and consumer exist and calls handle with one
// batch after another, never empty, until ctx ends; then it returns nil. handle
// owns the messages: each must be acked, nak'ed or left to its ack wait. When
// ctx ends, handle is not interrupted by Batches, and messages fetched but not handed
// over are nak'ed, so that another replica gets them at once.
func Batches(ctx context.Context, js jetstream.JetStream, log zerolog.Logger, s Source, handle func([]jetstream.Msg)) error {
	log = log.With().Str("consumer", s.Consumer.Durable).Logger()
	kept := newKeeper(s.Consumer.AckWait)
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	var keeps sync.WaitGroup
	keeps.Go(func() { kept.run(keeping) })
	defer keeps.Wait()
	defer stop()
	for ctx.Err() == nil {
		awaitConnection(ctx, js.Conn())
		var consumer jetstream.Consumer
		err := retry.Until(ctx, log, "stream "+s.Stream.Name, func(ctx context.Context) (err error) {
			if _, err = streams.EnsureStream(ctx, js, s.Stream); err == nil {
				consumer, err = streams.EnsureConsumer(ctx, js, s.Stream.Name, s.Consumer)
			}
			return err
		})
		if err != nil {
			break
		}
		if err := read(ctx, js.Conn(), consumer, s, kept, handle); err != nil && ctx.Err() == nil {
			log.Warn().Err(err).Msg("reading interrupted")
			_ = retry.Sleep(ctx, retry.Jitter(time.Second))
		}
	}
	return nil
}

// awaitConnection waits until the broker is connected, or ctx ends. Who made
// the connection logs what it does.
func awaitConnection(ctx context.Context, nc *nats.Conn) {
	for !nc.IsConnected() && retry.Sleep(ctx, connectionPoll) == nil {
	}
}

// read hands batches over until ctx ends or the consumer stops answering.
func read(ctx context.Context, nc *nats.Conn, consumer jetstream.Consumer, s Source, kept *keeper, handle func([]jetstream.Msg)) error {
	it, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(s.MaxBatch, maxFetch), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return fmt.Errorf("open consumer: %w", err)
	}
	defer lookAfter(ctx, nc, consumer, it.Stop)()
	incoming := make(chan jetstream.Msg, s.MaxBatch)
	held := semaphore.NewWeighted(maxHeld)
	failed := make(chan error, 1)
	go func() {
		defer close(incoming)
		for {
			m, err := it.Next()
			switch {
			case err == nil:
				m, isNew := kept.keep(m)
				if !isNew {
					continue
				}
				_ = held.Acquire(context.Background(), size(m)) // whoever takes it from incoming releases it
				incoming <- m
			case errors.Is(err, jetstream.ErrNoHeartbeat):
				// The broker is away or the consumer gone. Asking again tells which.
				failed <- err
				it.Stop()
				return
			default:
				failed <- err
				return
			}
		}
	}()
	for batch := range batches(ctx, incoming, s) {
		for _, m := range batch {
			held.Release(size(m))
		}
		handle(batch)
	}
	it.Drain()
	for m := range incoming { // what was fetched goes back
		held.Release(size(m))
		_ = m.Nak()
	}
	return <-failed
}

// lookAfter has gone called if the consumer is not there any more, or another one
// in its place, when the broker is connected again: one that has lost its store
// would be noticed by its silence, after two heartbeats. stop ends that.
func lookAfter(ctx context.Context, nc *nats.Conn, consumer jetstream.Consumer, gone func()) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	connected := nc.StatusChanged(nats.CONNECTED)
	made := consumer.CachedInfo().Created
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case _, ok := <-connected:
				if !ok { // closed for good
					return
				}
			}
			look, cancel := context.WithTimeout(ctx, lookTimeout)
			info, err := consumer.Info(look)
			cancel()
			if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && !info.Created.Equal(made) {
				gone()
				return
			}
		}
	})
	return func() {
		cancel()
		looking.Wait()
		nc.RemoveStatusListener(connected)
	}
}

// size is what a message counts for, at most all that may be held.
func size(m jetstream.Msg) int64 { return min(int64(len(m.Data())), maxHeld) }

// batches yields what is there, up to s.MaxBatch at a time, until ctx ends or
// incoming closes. Unless s lingers it waits for the first message of a batch and
// for no other: a lone message is handed over at once, and under load batches grow
// by what comes in while the one before is handled.
func batches(ctx context.Context, incoming <-chan jetstream.Msg, s Source) iter.Seq[[]jetstream.Msg] {
	return func(yield func([]jetstream.Msg) bool) {
		for {
			var batch []jetstream.Msg
			select {
			case <-ctx.Done():
				return
			case m, ok := <-incoming:
				if !ok {
					return
				}
				batch = append(batch, m)
			}
			over := time.NewTimer(s.Linger)
			for more := true; more && len(batch) < s.MaxBatch; {
				var m jetstream.Msg
				if m, more = next(ctx, incoming, over.C); more {
					batch = append(batch, m)
				}
			}
			over.Stop()
			if !yield(batch) {
				return
			}
		}
	}
}

// next takes a message that is there, or waits for one until over or ctx ends.
func next(ctx context.Context, incoming <-chan jetstream.Msg, over <-chan time.Time) (m jetstream.Msg, ok bool) {
	if len(incoming) > 0 { // nobody else takes from it
		m, ok = <-incoming
		return m, ok
	}
	select {
	case m, ok = <-incoming:
	case <-over:
	case <-ctx.Done():
	}
	return m, ok
}
