package deliver

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/consume"
)

// release takes messages of a delay line: what is due goes to the lane Again,
// what is not comes back after exactly its remaining time.
//
// A line is in order of publication, and jitter makes due times differ by up to
// a tenth of its step. So a delivery behind a full head can wait a little longer
// than its own due time, but never longer than the step and its whole jitter:
// all that stands before it was published earlier and is due by then.
func (w *Worker) release(ctx context.Context, msgs []jetstream.Msg) {
	now := w.now()
	var due []jetstream.Msg
	var again []*nats.Msg
	for _, m := range msgs {
		d, ok := w.decode(m)
		if !ok {
			continue
		}
		if remaining := d.NotBefore.Sub(now); remaining > 0 {
			w.sent(m.NakWithDelay(min(remaining, streams.MaxStep)))
			continue
		}
		d.NotBefore = time.Time{}
		due, again = append(due, m), append(again, d.AgainMsg())
	}
	if len(due) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	errs, _ := streams.PublishAll(ctx, w.js, again)
	for i, m := range due {
		if errs[i] != nil {
			w.log.Warn().Err(errs[i]).Msg("due retry not published; it comes again")
			consume.Leave(m)
			continue
		}
		w.sent(m.Ack())
	}
}
