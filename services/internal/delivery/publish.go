package delivery

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
)

// PublishAgain publishes deliveries on the lane of what is sent again: first
// tries have another, and don't queue behind. An error is the first of those
// that the stream did not confirm; the sweeper will find them.
func PublishAgain(ctx context.Context, js jetstream.JetStream, list []Delivery) error {
	msgs := make([]*nats.Msg, len(list))
	for i, d := range list {
		msgs[i] = d.AgainMsg()
	}
	errs, _ := streams.PublishAll(ctx, js, msgs)
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("publish delivery %v: %w", list[i].ID, err)
		}
	}
	return nil
}
