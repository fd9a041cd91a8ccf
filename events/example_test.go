package events_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// Hundreds of events go in one round trip, and each has its own answer.
func ExamplePublisher_PublishBatch() {
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
	batch := make([]events.Event, 300)
	for i := range batch {
		if batch[i], err = events.New(owner, "card.viewed", map[string]any{"n": i}); err != nil {
			fmt.Println(err)
			return
		}
	}
	batch[7].Type = "Card Viewed"

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	errs, ok := publisher.PublishBatch(ctx, batch)
	accepted := 0
	for i, err := range errs {
		switch {
		case err == nil:
			accepted++
		case errors.Is(err, events.ErrNotAccepted):
			fmt.Println("publish it again, as it is:", i)
		default:
			fmt.Println(i, err)
		}
	}
	fmt.Println("all accepted:", ok, "accepted:", accepted)
	// Output:
	// 7 invalid event: type: must be one to five words of a-z, 0-9 and _, joined by dots, such as card.viewed
	// all accepted: false accepted: 299
}

// An id of one's own makes the whole thing repeatable: the same id, time and data
// are the same event, whenever and wherever it is made.
func ExampleNew_options() {
	owner := uuid.MustParse("00000000-0000-7000-8000-000000000001")
	e, err := events.New(owner, "order.paid", map[string]any{"amount": 1200},
		events.WithID(uuid.MustParse("019c1400-0000-7000-8000-000000000042")),
		events.WithTime(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)),
		events.WithTrace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.ID)
	fmt.Println(e.Msg().Header.Get("traceparent"))
	fmt.Println(string(e.Body))
	// Output:
	// 019c1400-0000-7000-8000-000000000042
	// 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
	// {"type":"order.paid","timestamp":"2026-01-31T12:00:00Z","data":{"amount":1200}}
}

// An error says whether to publish again. An [events.InvalidError] has field and rule apart.
func ExampleInvalidError() {
	owner := uuid.MustParse("00000000-0000-7000-8000-000000000001")
	_, err := events.New(owner, "card.viewed", map[string]any{"note": strings.Repeat("x", 300<<10)},
		events.WithTime(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)))
	var broken *events.InvalidError
	if errors.As(err, &broken) {
		fmt.Println("field:", broken.Field)
		fmt.Println("rule:", broken.Rule)
	}
	fmt.Println("too large:", errors.Is(err, events.ErrTooLarge), "publish again:", errors.Is(err, events.ErrNotAccepted))
	// Output:
	// field: body
	// rule: must be at most 262144 bytes, not 307276
	// too large: true publish again: false
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
