package events_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
)

// broker is a NATS server for the examples, with the stream in it.
var broker *server.Server

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "cardwire-events-")
	if err != nil {
		panic(err)
	}
	broker = startServer(dir)
	code := m.Run()
	broker.Shutdown()
	broker.WaitForShutdown()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// startServer starts a server with EVENTS.
func startServer(dir string, change ...func(*server.Options)) *server.Server {
	opts := &server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true}
	for _, f := range change {
		f(opts)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		panic(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		panic("broker not ready")
	}
	nc, err := nats.Connect(s.ClientURL(), nats.Timeout(30*time.Second))
	if err != nil {
		panic(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		panic(err)
	}
	cfg := streams.DefaultConfig()
	cfg.EventsMaxBytes = 10 << 20
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := streams.EnsureStream(ctx, js, cfg.EventsStream()); err != nil {
		panic(err)
	}
	return s
}

// start starts a server of the test's own.
func start(t *testing.T) (*events.Publisher, jetstream.JetStream, *server.Server) {
	t.Helper()
	s := startServer(t.TempDir())
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	nc, err := nats.Connect(s.ClientURL(), nats.Timeout(30*time.Second), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	p, err := events.NewPublisher(nc)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return p, js, s
}

func stored(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), streams.Events)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func TestARepeatedPublishIsAcceptedAndChangesNothing(t *testing.T) {
	t.Parallel()
	p, js, _ := start(t)
	e, err := events.New(alice, events.CardViewed, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := p.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if n := stored(t, js); n != 1 {
		t.Errorf("%d messages stored, want 1", n)
	}
}

func TestPublishBatchAnswersForEachEvent(t *testing.T) {
	t.Parallel()
	p, js, _ := start(t)
	batch := make([]events.Event, 2500) // more than are in flight at once
	for i := range batch {
		var err error
		if batch[i], err = events.New(alice, events.CardViewed, map[string]int{"n": i}); err != nil {
			t.Fatal(err)
		}
	}
	batch[7].Type = "Bad Type"
	batch[1700].ID = uuid.New()
	errs, ok := p.PublishBatch(t.Context(), batch)
	if ok {
		t.Error("ok, although two are invalid")
	}
	for i, err := range errs {
		if invalid := i == 7 || i == 1700; errors.Is(err, events.ErrInvalid) != invalid || (err != nil) != invalid {
			t.Errorf("event %d: %v", i, err)
		}
	}
	if n := stored(t, js); n != 2498 {
		t.Errorf("%d messages stored, want 2498", n)
	}
	// In the batch's order.
	s, err := js.Stream(t.Context(), streams.Events)
	if err != nil {
		t.Fatal(err)
	}
	for seq, i := range map[uint64]int{1: 0, 8: 8, 1699: 1699, 2498: 2499} {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Header.Get(nats.MsgIdHdr); got != batch[i].ID.String() {
			t.Errorf("message %d is %s, want event %d", seq, got, i)
		}
	}
}

func TestWithoutABrokerEventsAreNotAccepted(t *testing.T) {
	t.Parallel()
	p, _, s := start(t)
	s.Shutdown()
	s.WaitForShutdown()
	e, err := events.New(alice, events.CardViewed, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := p.Publish(ctx, e); !errors.Is(err, events.ErrNotAccepted) {
		t.Errorf("publish: %v, want not accepted", err)
	}
	errs, ok := p.PublishBatch(ctx, []events.Event{e, e})
	if ok || !errors.Is(errs[0], events.ErrNotAccepted) || !errors.Is(errs[1], events.ErrNotAccepted) {
		t.Errorf("publish batch: %v", errs)
	}
}

func TestAFullStreamAcceptsNothingAndLosesNothing(t *testing.T) {
	t.Parallel()
	p, js, _ := start(t)
	data := map[string]string{"filler": fmt.Sprintf("%0200000d", 0)}
	accepted := uint64(0)
	for {
		e, err := events.New(alice, events.CardViewed, data)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Publish(t.Context(), e); err != nil {
			if !errors.Is(err, events.ErrNotAccepted) {
				t.Errorf("publish to a full stream: %v, want not accepted", err)
			}
			break
		}
		accepted++
	}
	if n := stored(t, js); n != accepted || n == 0 {
		t.Errorf("%d stored of %d accepted", n, accepted)
	}
}

// The client makes a caller wait who has too much unanswered, for each message.
func TestPublishAllEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, js, _ := start(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SILENT", Subjects: []string{"silent"}, NoAck: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	msgs := make([]*nats.Msg, 1000)
	for i := range msgs {
		msgs[i] = nats.NewMsg("silent")
	}
	for range 5 { // the client's limit is 4,000
		if errs, ok := streams.PublishAll(ctx, js, msgs); ok || !errors.Is(errs[999], context.DeadlineExceeded) {
			t.Errorf("last of the errors: %v", errs[999])
		}
	}
}

// The first publish goes to somebody who does not answer, as to a leader of the
// stream that is gone; the one who does comes meanwhile.
func TestWhatTheBrokerDoesNotAnswerIsPublishedAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		publish func(context.Context, *events.Publisher, events.Event) error
	}{
		{"one event", func(ctx context.Context, p *events.Publisher, e events.Event) error { return p.Publish(ctx, e) }},
		{"a batch", func(ctx context.Context, p *events.Publisher, e events.Event) error {
			errs, _ := p.PublishBatch(ctx, []events.Event{e})
			return errs[0]
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, js, _ := start(t)
			if err := js.DeleteStream(t.Context(), streams.Events); err != nil {
				t.Fatal(err)
			}
			published := make(chan struct{})
			first := sync.OnceFunc(func() { close(published) })
			if _, err := p.Conn().Subscribe(streams.AllEvents, func(*nats.Msg) { first() }); err != nil {
				t.Fatal(err)
			}
			if err := p.Conn().Flush(); err != nil {
				t.Fatal(err)
			}
			e, err := events.New(alice, events.CardViewed, struct{}{})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- tt.publish(t.Context(), p, e) }()
			<-published
			cfg := streams.DefaultConfig()
			cfg.EventsMaxBytes = 10 << 20
			if _, err := streams.EnsureStream(t.Context(), js, cfg.EventsStream()); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Errorf("not accepted: %v", err)
			}
			if n := stored(t, js); n != 1 {
				t.Errorf("%d messages stored, want 1", n)
			}
		})
	}
}
