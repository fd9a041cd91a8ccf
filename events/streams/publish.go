package streams

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publishWindow is how many messages PublishAll has in flight: enough to hide
// the round trip, and below the client's limit of 4,000, from which on it refuses.
const publishWindow = 1_000

// PublishAll publishes messages in order, about a thousand per round trip, and
// waits until the stream has stored them or ctx ends. errs[i] is nil if it
// stored msgs[i]; otherwise it may have stored it all the same. ok says that
// all are nil.
func PublishAll(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) (errs []error, ok bool) {
	errs = make([]error, len(msgs))
	acks := make([]jetstream.PubAckFuture, min(len(msgs), publishWindow))
	ok = true
	for start := 0; start < len(msgs); start += publishWindow {
		window := msgs[start:min(start+publishWindow, len(msgs))]
		for i, m := range window {
			// The client's own retries are off: whoever calls decides.
			acks[i], errs[start+i] = js.PublishMsgAsync(m, jetstream.WithRetryAttempts(0))
		}
		for i := range window {
			if errs[start+i] == nil {
				errs[start+i] = await(ctx, acks[i])
			}
			ok = ok && errs[start+i] == nil
		}
	}
	return errs, ok
}

func await(ctx context.Context, ack jetstream.PubAckFuture) error {
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
