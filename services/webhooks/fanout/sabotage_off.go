//go:build !failpoints

package fanout

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// ackFirst is the crash lab's sabotage of this step: see
// services/internal/failpoint. Here there is none.
func (f *FanOut) ackFirst(ctx context.Context, _ []jetstream.Msg) context.Context { return ctx }
