package streams_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
)

func TestEventSubjectRoundTrip(t *testing.T) {
	t.Parallel()
	user := uuid.MustParse("0198c2a0-1111-7000-8000-00000000000a")
	subject := streams.EventSubject(user, "card.viewed")
	if want := "events.0198c2a0-1111-7000-8000-00000000000a.card.viewed"; subject != want {
		t.Errorf("subject %q, want %q", subject, want)
	}
	gotUser, gotType, err := streams.ParseEventSubject(subject)
	if err != nil || gotUser != user || gotType != "card.viewed" {
		t.Errorf("parsed %s, %q, %v", gotUser, gotType, err)
	}
}

func TestStepNamesAreTokens(t *testing.T) {
	t.Parallel()
	for step, want := range map[time.Duration]string{
		30 * time.Second: "30s", 5 * time.Minute: "5m", 30 * time.Minute: "30m", 24 * time.Hour: "24h",
		90 * time.Second: "90s", 250 * time.Millisecond: "250ms", time.Minute + time.Millisecond: "60001ms",
	} {
		if got := streams.StepName(step); got != want {
			t.Errorf("%s: %q, want %q", step, got, want)
		}
	}
}

func TestWaitLineHeads(t *testing.T) {
	t.Parallel()
	for step, want := range map[time.Duration]int{
		10 * time.Millisecond: 16, time.Second: 100, 3 * time.Second: streams.WaitHead, time.Hour: streams.WaitHead,
	} {
		if got := streams.WaitLineConsumer(step).MaxAckPending; got != want {
			t.Errorf("%s: head of %d, want %d", step, got, want)
		}
	}
}

// The broker offers no asynchronous writing for copies, nor together with atomic batches.
func TestDeliveriesAreWrittenLaterByALoneBroker(t *testing.T) {
	t.Parallel()
	for replicas, want := range map[int]jetstream.PersistModeType{1: jetstream.AsyncPersistMode, 3: jetstream.DefaultPersistMode} {
		cfg := streams.Config{Replicas: replicas}
		if got := cfg.DeliveriesStream(); got.PersistMode != want || got.AllowAtomicPublish {
			t.Errorf("%d copies: persist mode %v, atomic publish %v; want %v and false", replicas, got.PersistMode, got.AllowAtomicPublish, want)
		}
		if got := cfg.EventsStream(); got.PersistMode != jetstream.DefaultPersistMode || !got.AllowAtomicPublish {
			t.Errorf("%d copies: events: persist mode %v, atomic publish %v; want the default, and true", replicas, got.PersistMode, got.AllowAtomicPublish)
		}
	}
}
