package streams

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// EnsureStream creates the stream if it is missing, and otherwise leaves it as
// it is. Any number of services may call it at once, in any order: whoever
// comes second finds it there. It needs the permissions STREAM.INFO and
// STREAM.CREATE of that stream.
func EnsureStream(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	stream, err := js.Stream(ctx, cfg.Name)
	if err == nil {
		return stream, nil
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		if errors.Is(err, nats.ErrReconnectBufExceeded) { // the client's word for it
			err = nats.ErrDisconnected
		}
		return nil, fmt.Errorf("look up stream %s: %w", cfg.Name, err)
	}
	stream, err = js.CreateStream(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		// Somebody else has created it meanwhile, perhaps with other limits:
		// the first one stands until an operator updates it.
		stream, err = js.Stream(ctx, cfg.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("create stream %s: %w", cfg.Name, err)
	}
	return stream, nil
}

// EnsureConsumer creates the durable consumer, or brings its settings up to
// date, and returns it. Concurrent calls with the same settings are harmless.
func EnsureConsumer(ctx context.Context, js jetstream.JetStream, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	c, err := js.CreateOrUpdateConsumer(ctx, stream, cfg)
	if err != nil {
		return nil, fmt.Errorf("create consumer %s on %s: %w", cfg.Durable, stream, err)
	}
	return c, nil
}
