package consume_test

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/broker"
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

// read is a reading of messages with the given bodies.
func read(t *testing.T, bodies ...string) *reading {
	t.Helper()
	r := on(t, natstest.Start(t))
	for _, body := range bodies {
		if _, err := r.js.Publish(t.Context(), "deliveries.again.x", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// on is a reading of a broker, of a consumer with a short ack wait.
func on(t *testing.T, b *broker.Broker) *reading {
	t.Helper()
	js := natstest.JetStream(t, b, "deliverer")
	r := &reading{t: t, js: js, source: consume.Source{
		Stream: streams.DefaultConfig().DeliveriesStream(), Consumer: streams.LaneConsumer(streams.Again, streams.AllAgain), MaxBatch: 10,
	}}
	r.source.Consumer.AckWait = 2 * time.Second
	if _, err := streams.EnsureStream(t.Context(), js, r.source.Stream); err != nil {
		t.Fatal(err)
	}
	return r
}

// begin runs a reader until stop is called or the test ends.
func (r *reading) begin(handle func(jetstream.Msg)) (stop func()) {
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
	stop = func() { cancel(); running.Wait() }
	r.t.Cleanup(stop)
	return stop
}

func TestWhatIsWorkedOnDoesNotComeAgainAndWhatIsLeftDoes(t *testing.T) {
	t.Parallel()
	r := read(t, "worked on", "left")
	var mu sync.Mutex
	count := make(map[string]int)
	var held jetstream.Msg
	done := make(chan struct{})
	r.begin(func(m jetstream.Msg) {
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
	await(t, done)
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
	r.begin(func(m jetstream.Msg) {
		if meta, err := m.Metadata(); err != nil || meta.NumDelivered != 2 {
			t.Errorf("handed out as %+v, %v; want for the second time", meta, err)
		}
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
		close(done)
	})
	await(t, done)
}

func TestABrokerThatLostItsStoreIsReadAsSoonAsItIsBack(t *testing.T) {
	t.Parallel()
	b := natstest.Start(t)
	_, port, err := net.SplitHostPort(b.Address())
	if err != nil {
		t.Fatal(err)
	}
	r := on(t, b)
	publish := func(js jetstream.JetStream) error {
		_, err := js.Publish(t.Context(), "deliveries.again.x", nil)
		return err
	}
	if err := publish(r.js); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{}, 10)
	stop := r.begin(func(m jetstream.Msg) {
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
		read <- struct{}{}
	})
	await(t, read)
	b.Stop()
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	js := natstest.JetStream(t, natstest.StartIn(t, t.TempDir(), n), "deliverer")
	for publish(js) != nil { // until the reader has made the stream
		if t.Context().Err() != nil {
			return
		}
	}
	await(t, read)
	stop() // before the broker
}

// await turns a hang into a failure.
func await(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(bound):
		t.Fatal("what must happen did not")
	}
}
