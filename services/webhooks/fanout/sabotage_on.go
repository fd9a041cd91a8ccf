//go:build failpoints

package fanout

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/services/internal/failpoint"
)

// ackFirst is the crash lab's sabotage "ack before commit": see
// services/internal/failpoint. As a program would that acks what it receives, it
// then tries to store that once: the context that it returns has ended.
func (f *FanOut) ackFirst(ctx context.Context, msgs []jetstream.Msg) context.Context {
	if !failpoint.Sabotaged("ack before commit") {
		return ctx
	}
	for _, m := range msgs {
		f.check(m.Ack())
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}
