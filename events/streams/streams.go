// Package streams names everything that Cardwire keeps in JetStream: streams,
// subjects, consumers, and their limits and windows. No other file in the
// project spells one of these names or numbers.
package streams

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
)

// Streams.
const (
	// Events is the log of what happened. Fan-out reads it once, replay again.
	Events = "EVENTS"
	// Deliveries is the work queue of what is to be POSTed, now or later. It
	// holds ids only: PostgreSQL holds the record, so losing this stream costs
	// a delay and no delivery.
	Deliveries = "DELIVERIES"
)

// Durable consumers.
const (
	FanOut    = "fanout"     // on Events: every event, read by services/webhooks
	CardViews = "card-views" // on Events: card.viewed, read by services/views to write view rows
	First     = "first"      // on Deliveries: first tries
	Again     = "again"      // on Deliveries: retries that are due, and what the sweeper found
	// The delay lines have a consumer per step of the schedule: WaitConsumer.
)

// Subject filters.
const (
	AllEvents = "events.>"
	AllFirst  = "deliveries.first.>"
	AllAgain  = "deliveries.again.>"
)

// Limits and windows.
const (
	// MaxMessage is the largest message either stream takes, in bytes: an
	// event body of 256 KiB with its headers. Raising it needs max_payload in
	// nats.conf raised too.
	MaxMessage = 300 << 10

	// EventsDedup is how long EVENTS remembers a Nats-Msg-Id. It spares work
	// when a publisher repeats an ambiguous publish; correctness does not rest
	// on it (ids are derived). Each id costs the broker 150 bytes of heap
	// meanwhile (measured): at 5,000 events/s, 30 s are 22 MB.
	EventsDedup = 30 * time.Second

	// DeliveriesDedup does the same for a repeated fan-out batch. Shorter, as a
	// work queue forgets acked ids at a broker restart anyway, and the claim in
	// PostgreSQL refuses repeats.
	DeliveriesDedup = 10 * time.Second

	// DeliveriesMaxAge ends messages that nobody reads any more, such as a
	// delay line whose step left the schedule. Longer than the longest step
	// (24 h); the sweeper finds the rows by itself.
	DeliveriesMaxAge = 48 * time.Hour

	// AckWait is when the broker hands a message out again of which it hears
	// nothing: its reader is gone, or it was lost on its way, as all that was on
	// its way is when a broker is killed. With a second or two to start and to
	// connect again, what was lost thus is there again within 10 s (measured:
	// docs/recovery.md). It does not bound how long work may take: readers say at half of
	// it what they still hold (services/internal/consume), and at full load nothing
	// comes twice (measured). Shorter, and whoever stands still for a moment on a
	// busy machine gets its messages twice, which costs work and changes nothing.
	AckWait = 5 * time.Second

	// FanOutMaxPending bounds what all fan-out replicas hold at once: a few
	// batches each. Too low and they idle between batches.
	FanOutMaxPending = 4_000

	// DeliverMaxPending bounds what all deliverers hold of one lane. A lane
	// holds only what is being worked on: waiting is done in delay lines.
	DeliverMaxPending = 10_000

	// WaitHead is the most that a delay line hands out ahead of time. Measured:
	// 100 delayed naks come back 4–11 ms late at 500/s, 1,000 come back 51–984 ms late.
	WaitHead = 256

	// MaxStep is the longest step of a schedule: half of DeliveriesMaxAge, so
	// that no waiting message ages out.
	MaxStep = 24 * time.Hour
)

// EventSubject is where an event of a user is published:
// events.<user_id>.<type>, so "events.<user_id>.>" is all of one user and
// "events.*.card.viewed" is one type. A type has one to five tokens.
func EventSubject(userID uuid.UUID, eventType string) string {
	return "events." + userID.String() + "." + eventType
}

// ParseEventSubject is the inverse of EventSubject. The type is returned as it
// stands; events.ValidateType checks it.
func ParseEventSubject(subject string) (userID uuid.UUID, eventType string, err error) {
	rest, ok := strings.CutPrefix(subject, "events.")
	if !ok {
		return uuid.Nil, "", fmt.Errorf("subject: must start with %q", "events.")
	}
	user, eventType, ok := strings.Cut(rest, ".")
	if !ok {
		return uuid.Nil, "", fmt.Errorf("subject: must be events.<user_id>.<type>")
	}
	// uuid.Parse takes other spellings as well; a subject has exactly one.
	userID, err = uuid.Parse(user)
	if err != nil || userID.String() != user {
		return uuid.Nil, "", fmt.Errorf("subject: the user id must be a UUID in lower case")
	}
	return userID, eventType, nil
}

// FirstSubject is where fan-out publishes a delivery.
func FirstSubject(endpointID uuid.UUID) string { return "deliveries.first." + endpointID.String() }

// AgainSubject is where a delivery is published whose retry is due.
func AgainSubject(endpointID uuid.UUID) string { return "deliveries.again." + endpointID.String() }

// DeliverySubjects are filters of all that may be in Deliveries for an endpoint.
func DeliverySubjects(endpointID uuid.UUID) []string {
	return []string{"deliveries.*." + endpointID.String(), "deliveries.wait.*." + endpointID.String()}
}

// WaitSubject is the delay line of a step of the schedule.
func WaitSubject(step time.Duration, endpointID uuid.UUID) string {
	return "deliveries.wait." + StepName(step) + "." + endpointID.String()
}

// AllWait is the filter of the delay line of a step.
func AllWait(step time.Duration) string { return "deliveries.wait." + StepName(step) + ".>" }

// WaitConsumer names the consumer of the delay line of a step.
func WaitConsumer(step time.Duration) string { return "wait-" + StepName(step) }

// StepName writes a step in its largest whole unit: 30s, 5m, 24h, 250ms. Below
// a millisecond it is cut.
func StepName(step time.Duration) string {
	switch {
	case step >= time.Hour && step%time.Hour == 0:
		return fmt.Sprintf("%dh", step/time.Hour)
	case step >= time.Minute && step%time.Minute == 0:
		return fmt.Sprintf("%dm", step/time.Minute)
	case step >= time.Second && step%time.Second == 0:
		return fmt.Sprintf("%ds", step/time.Second)
	default:
		return fmt.Sprintf("%dms", step/time.Millisecond)
	}
}

// Config is what an operator may change about the streams.
type Config struct {
	Replicas       int           // copies of each stream in a cluster: 1, 3 or 5
	EventsMaxAge   time.Duration // how far back a replay can reach
	EventsMaxBytes int64         // disk for EVENTS; when full, publishes are refused and go to the outbox
}

// DefaultConfig is a lone broker that keeps events for 30 days or 10 GiB.
func DefaultConfig() Config {
	return Config{Replicas: 1, EventsMaxAge: 30 * 24 * time.Hour, EventsMaxBytes: 10 << 30}
}

// EventsStream is the configuration of EVENTS.
func (c Config) EventsStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               Events,
		Description:        "What happened, by owner and type: events.<user_id>.<type>",
		Subjects:           []string{AllEvents},
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardNew, // refuse what does not fit rather than drop what was accepted
		Storage:            jetstream.FileStorage,
		MaxAge:             c.EventsMaxAge,
		MaxBytes:           c.EventsMaxBytes,
		MaxMsgSize:         MaxMessage,
		Duplicates:         EventsDedup,
		Replicas:           c.Replicas,
		AllowDirect:        true,
		AllowAtomicPublish: true, // see Atomic
	}
}

// DeliveriesStream is the configuration of DELIVERIES.
func (c Config) DeliveriesStream() jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name:        Deliveries,
		Description: "What is to be POSTed, now (first, again) or later (wait)",
		Subjects:    []string{"deliveries.>"},
		Retention:   jetstream.WorkQueuePolicy,
		Discard:     jetstream.DiscardNew,
		Storage:     jetstream.FileStorage,
		MaxAge:      DeliveriesMaxAge,
		MaxMsgSize:  MaxMessage,
		Duplicates:  DeliveriesDedup,
		Replicas:    c.Replicas,
		AllowDirect: true,
	}
	if c.Replicas == 1 { // the broker does not offer it for copies
		// PostgreSQL has what is in here, so the broker need not write it before it
		// acks: a killed one forgets the last milliseconds, which the sweeper publishes
		// again. With sync_interval: always that spares two of three syncs of a
		// delivery (measured: p50 at 500/s 34–45 → 14–26 ms).
		cfg.PersistMode = jetstream.AsyncPersistMode
	}
	return cfg
}

// FanOutConsumer reads every event, in batches.
func FanOutConsumer() jetstream.ConsumerConfig {
	return durable(FanOut, AllEvents, FanOutMaxPending)
}

// CardViewsConsumer reads the card.viewed events of all users.
func CardViewsConsumer() jetstream.ConsumerConfig {
	return durable(CardViews, "events.*.card.viewed", FanOutMaxPending)
}

// LaneConsumer reads First or Again. What comes again while it is being POSTed
// the claim refuses.
func LaneConsumer(name, filter string) jetstream.ConsumerConfig {
	return durable(name, filter, DeliverMaxPending)
}

// WaitLineConsumer reads the delay line of a step. Its head is small: 100 per
// second of the step, at least 16 and at most WaitHead.
func WaitLineConsumer(step time.Duration) jetstream.ConsumerConfig {
	head := min(max(int(100*step.Seconds()), 16), WaitHead)
	return durable(WaitConsumer(step), AllWait(step), head)
}

func durable(name, filter string, pending int) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       name,
		FilterSubject: filter,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       AckWait,
		// Attempts are counted in PostgreSQL. A finite MaxDeliver would strand
		// a message for good after a few crashes or prefetches of ours.
		MaxDeliver:    -1,
		MaxAckPending: pending,
	}
}
