package consume

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/natstest"
)

// fetched is a message as it comes from the broker.
func fetched(t *testing.T) jetstream.Msg {
	t.Helper()
	js := natstest.JetStream(t, natstest.Start(t), "deliverer")
	if _, err := streams.EnsureStream(t.Context(), js, streams.DefaultConfig().DeliveriesStream()); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "deliveries.again.x", nil); err != nil {
		t.Fatal(err)
	}
	c, err := streams.EnsureConsumer(t.Context(), js, streams.Deliveries, streams.LaneConsumer(streams.Again, streams.AllAgain))
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTheBrokerHearsOfWhatIsKept(t *testing.T) {
	t.Parallel()
	const ackWait = 6 * time.Second
	m := fetched(t)
	for _, tt := range []struct {
		name  string
		after time.Duration
		do    func(k *keeper, m jetstream.Msg)
		due   int
		kept  int
	}{
		{"fresh: it knows", time.Second, nil, 0, 1},
		{"at half of the ack wait: it is told", ackWait / 2, nil, 1, 1},
		{"left: it is to think that nobody is at it", ackWait / 2, func(_ *keeper, m jetstream.Msg) { Leave(m) }, 0, 0},
		{"handed out again: it knows", 4 * time.Second, func(k *keeper, m jetstream.Msg) {
			k.kept[m.(*message).place].told = m.(*message).came.Add(3 * time.Second)
		}, 0, 1},
		{"kept for very long: forgotten", mostKept + time.Second, nil, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newKeeper(ackWait)
			kept, isNew := k.keep(m)
			if !isNew {
				t.Fatal("it is not new")
			}
			if tt.do != nil {
				tt.do(k, kept)
			}
			if due := k.due(kept.(*message).came.Add(tt.after)); len(due) != tt.due || len(k.kept) != tt.kept {
				t.Errorf("%d due of %d kept, want %d of %d", len(due), len(k.kept), tt.due, tt.kept)
			}
		})
	}
}

func TestASecondCopyIsNotHandedOver(t *testing.T) {
	t.Parallel()
	k := newKeeper(time.Minute)
	m := fetched(t)
	first, _ := k.keep(m)
	if again, isNew := k.keep(m); isNew || again != first {
		t.Error("it counts as new while the first is worked on")
	}
	if err := first.Ack(); err != nil {
		t.Fatal(err)
	}
	if _, isNew := k.keep(m); !isNew {
		t.Error("it does not count as new once the first is answered")
	}
}
