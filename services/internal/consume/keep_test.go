package consume_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/consume"
	"github.com/cardwire/cardwire/services/internal/natstest"
)

// bound turns a hang into a failure.
const bound = time.Minute

// A reading is a broker with a stream of messages, which readers read.
type reading struct {
	t      *testing.T
	js     jetstream.JetStream
	source consume.Source
}

// read begins a reading of messages with the given bodies, of a consumer with a
// short ack wait.
func read(t *testing.T, bodies ...string) *reading {
	t.Helper()
	b := natstest.Start(t)
	js := natstest.JetStream(t, b, "deliverer")
	r := &reading{t: t, js: js, source: consume.Source{
		Stream: streams.DefaultConfig().DeliveriesStream(), Consumer: streams.LaneConsumer(streams.Again, streams.AllAgain), MaxBatch: 10,
	}}
	r.source.Consumer.AckWait = 2 * time.Second
	if _, err := streams.EnsureStream(t.Context(), js, r.source.Stream); err != nil {
		t.Fatal(err)
	}
	for _, body := range bodies {
		if _, err := js.Publish(t.Context(), "deliveries.again.x", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// with runs a reader until done is closed or the test ends.
func (r *reading) with(done <-chan struct{}, handle func(jetstream.Msg)) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		err := consume.Batches(ctx, r.js, zerolog.Nop(), r.source, func(msgs []jetstream.Msg) {
			for _, m := range msgs {
				handle(m)
			}
		})
		if err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(func() { cancel(); running.Wait() })
	select {
	case <-done:
	case <-time.After(bound):
		r.t.Fatal("what must happen did not")
	}
}

func TestWhatIsWorkedOnDoesNotComeAgainAndWhatIsLeftDoes(t *testing.T) {
	t.Parallel()
	r := read(t, "worked on", "left")
	var mu sync.Mutex
	count := make(map[string]int)
	var held jetstream.Msg
	done := make(chan struct{})
	r.with(done, func(m jetstream.Msg) {
		mu.Lock()
		defer mu.Unlock()
		count[string(m.Data())]++
		switch {
		case string(m.Data()) == "worked on":
			held = m
		case count["left"] < 3: // two ack waits
			consume.Leave(m)
		default:
			if err := m.Ack(); err != nil {
				t.Error(err)
			}
			close(done)
		}
	})
	mu.Lock()
	defer mu.Unlock()
	if count["worked on"] != 1 {
		t.Errorf("what is worked on was handed over %d times", count["worked on"])
	}
	if err := held.Ack(); err != nil {
		t.Error(err)
	}
}

func TestAConsumerOfAnOlderVersionGetsTheAckWaitOfThisOne(t *testing.T) {
	t.Parallel()
	r := read(t, "a message")
	older := r.source.Consumer
	older.AckWait = time.Hour
	c, err := streams.EnsureConsumer(t.Context(), r.js, streams.Deliveries, older)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next(jetstream.FetchMaxWait(bound)); err != nil { // by a reader that is gone
		t.Fatal(err)
	}
	done := make(chan struct{})
	r.with(done, func(m jetstream.Msg) {
		if meta, err := m.Metadata(); err != nil || meta.NumDelivered != 2 {
			t.Errorf("handed out as %+v, %v; want for the second time", meta, err)
		}
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
		close(done)
	})
}
