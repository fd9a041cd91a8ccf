package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// windowSize is how many messages PublishAll has in flight: enough to hide
// the round trip, and below the client's limit of 4,000, from which on it refuses. An atomic
// batch has no more either: the broker's limit.
const windowSize = 1_000

// forgetAfter is when the client forgets a publish that the broker has not
// answered, as when the leader of a stream changes. By default it never does,
// and after 4,000 of them refuses to publish anything: more than PublishAll
// leaves unanswered in this time. PublishAcks waits no longer.
const forgetAfter = 5 * time.Second

// AnswerWithin is how long the broker may be silent before a message is
// published once more, under the same id: the leader of the stream is gone with
// it, and the next one is elected meanwhile, which takes 4 to 9 s. Longer, and
// publishing goes on so much later; shorter, and a broker that is slow gets more
// to do. Of many messages it is the time without any answer, and longer.
const AnswerWithin = 500 * time.Millisecond

// errUnanswered stands for an answer that was not waited for any longer.
var errUnanswered = errors.New("no answer")

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
// all are nil. Those that the broker does not answer (AnswerWithin) are published
// again, so each should have an id, and may then be behind later ones.
func PublishAll(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) (errs []error, ok bool) {
	errs, ok = publishAll(ctx, js, msgs, 2*AnswerWithin, func(int, *jetstream.PubAck) {})
	for !ok {
		var silent []*nats.Msg
		var at []int
		for i, err := range errs {
			if errors.Is(err, errUnanswered) {
				silent, at = append(silent, msgs[i]), append(at, i)
			}
		}
		if len(silent) == 0 {
			break
		}
		again, all := publishAll(ctx, js, silent, 4*AnswerWithin, func(int, *jetstream.PubAck) {})
		for j, err := range again {
			errs[at[j]] = err
		}
		ok = all && !slices.ContainsFunc(errs, func(err error) bool { return err != nil })
	}
	return errs, ok
}

// PublishAcks is PublishAll for whoever wants to know where in the stream each
// message is, and whether it was there before: acks[i] is not nil if errs[i] is.
// It publishes nothing twice.
func PublishAcks(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) (acks []*jetstream.PubAck, errs []error) {
	acks = make([]*jetstream.PubAck, len(msgs))
	errs, _ = publishAll(ctx, js, msgs, forgetAfter, func(i int, ack *jetstream.PubAck) { acks[i] = ack })
	return acks, errs
}

// publishAll publishes each message once. Once the broker was silent for within,
// what it has not answered by then is errUnanswered.
func publishAll(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg, within time.Duration, acked func(int, *jetstream.PubAck)) (errs []error, ok bool) {
	errs = make([]error, len(msgs))
	for start := 0; start < len(msgs); start += windowSize {
		end := min(start+windowSize, len(msgs))
		ackedHere := func(i int, ack *jetstream.PubAck) { acked(start+i, ack) }
		if a, isAtomic := js.(atomic); isAtomic && a.publish(ctx, msgs[start:end], within, errs[start:end], ackedHere) {
			continue
		}
		publishWindow(ctx, js, msgs[start:end], within, errs[start:end], ackedHere)
	}
	return errs, !slices.ContainsFunc(errs, func(err error) bool { return err != nil })
}

// publishWindow publishes messages one by one, without waiting between them.
func publishWindow(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg, within time.Duration, errs []error, acked func(int, *jetstream.PubAck)) {
	futures := make([]jetstream.PubAckFuture, len(msgs))
	for i, m := range msgs {
		if errs[i] = ctx.Err(); errs[i] == nil {
			// The client's own retries are off: whoever calls decides.
			futures[i], errs[i] = js.PublishMsgAsync(m, jetstream.WithRetryAttempts(0))
		}
	}
	patience := within // for each answer, until one does not come
	for i, future := range futures {
		if errs[i] != nil {
			continue
		}
		var ack *jetstream.PubAck
		if ack, errs[i] = await(ctx, future, patience); ack != nil {
			acked(i, ack)
		}
		if errors.Is(errs[i], errUnanswered) {
			patience = 0
		}
	}
}

// await waits for an answer; one that is there is taken however short the patience.
func await(ctx context.Context, future jetstream.PubAckFuture, patience time.Duration) (*jetstream.PubAck, error) {
	select {
	case ack := <-future.Ok():
		return ack, nil
	case err := <-future.Err():
		return nil, err
	default:
	}
	over := time.NewTimer(patience)
	defer over.Stop()
	select {
	case ack := <-future.Ok():
		return ack, nil
	case err := <-future.Err():
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-over.C:
		return nil, errUnanswered
	}
}
