package events_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events"
)

// The owner's id and the type say who gets the event; the data is yours.
func ExampleNewAt() {
	owner := uuid.MustParse("00000000-0000-7000-8000-000000000001")
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	e, err := events.NewAt(at, owner, "card.viewed", map[string]any{"source": "qr"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Msg().Subject)
	fmt.Println(string(e.Body))
	// Output:
	// events.00000000-0000-7000-8000-000000000001.card.viewed
	// {"type":"card.viewed","timestamp":"2026-01-31T12:00:00Z","data":{"source":"qr"}}
}

// An event that is not accepted is published again, with the same id.
func ExamplePublisher_Publish() {
	nc, err := nats.Connect(broker.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nc.Close()
	publisher, err := events.NewPublisher(nc)
	if err != nil {
		fmt.Println(err)
		return
	}
	owner := uuid.MustParse("00000000-0000-7000-8000-000000000001")
	e, err := events.New(owner, "card.viewed", map[string]any{"source": "qr"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 { // the repeat changes nothing
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err = publisher.Publish(ctx, e)
		cancel()
		if !errors.Is(err, events.ErrNotAccepted) {
			break
		}
	}
	fmt.Println("accepted:", err == nil)
	// Output: accepted: true
}

// A rule that an event breaks is named.
func ExampleNew_invalid() {
	owner := uuid.MustParse("00000000-0000-7000-8000-000000000001")
	_, err := events.New(owner, "Card Viewed", struct{}{})
	fmt.Println(err)
	fmt.Println("invalid:", errors.Is(err, events.ErrInvalid))
	// Output:
	// invalid event: type: must be one to five words of a-z, 0-9 and _, joined by dots, such as card.viewed
	// invalid: true
}
