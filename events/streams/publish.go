package streams

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publishWindow is how many messages PublishAll has in flight: enough to hide
// the round trip, and below the client's limit of 4,000, from which on it refuses.
const publishWindow = 1_000

// forgetAfter is when the client forgets a publish that the broker has not
// answered, as when the leader of a stream changes. By default it never does,
// and after 4,000 of them refuses to publish anything. No caller waits longer.
const forgetAfter = 10 * time.Second

// Open is JetStream over nc, fit for PublishAll.
func Open(nc *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(forgetAfter))
	if err != nil {
		return nil, fmt.Errorf("open jetstream: %w", err)
	}
	return js, nil
}

// PublishAll publishes messages in order, about a thousand per round trip, and
// waits until the stream has stored them or ctx ends. errs[i] is nil if it
// stored msgs[i]; otherwise it may have stored it all the same. ok says that
// all are nil.
func PublishAll(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) (errs []error, ok bool) {
	return publishAll(ctx, js, msgs, func(int, *jetstream.PubAck) {})
}

// PublishAcks is PublishAll for whoever wants to know where in the stream each
// message is, and whether it was there before: acks[i] is not nil if errs[i] is.
func PublishAcks(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) (acks []*jetstream.PubAck, errs []error) {
	acks = make([]*jetstream.PubAck, len(msgs))
	errs, _ = publishAll(ctx, js, msgs, func(i int, ack *jetstream.PubAck) { acks[i] = ack })
	return acks, errs
}

func publishAll(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg, acked func(int, *jetstream.PubAck)) (errs []error, ok bool) {
	errs = make([]error, len(msgs))
	futures := make([]jetstream.PubAckFuture, min(len(msgs), publishWindow))
	ok = true
	for start := 0; start < len(msgs); start += publishWindow {
		window := msgs[start:min(start+publishWindow, len(msgs))]
		for i, m := range window {
			if errs[start+i] = ctx.Err(); errs[start+i] != nil {
				continue
			}
			// The client's own retries are off: whoever calls decides.
			futures[i], errs[start+i] = js.PublishMsgAsync(m, jetstream.WithRetryAttempts(0))
		}
		for i := range window {
			if errs[start+i] == nil {
				var ack *jetstream.PubAck
				if ack, errs[start+i] = await(ctx, futures[i]); ack != nil {
					acked(start+i, ack)
				}
			}
			ok = ok && errs[start+i] == nil
		}
	}
	return errs, ok
}

func await(ctx context.Context, future jetstream.PubAckFuture) (*jetstream.PubAck, error) {
	select {
	case ack := <-future.Ok():
		return ack, nil
	case err := <-future.Err():
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
