package events_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
)

// messages are for the subjects of EVENTS, each with an id.
func messages(n int) []*nats.Msg {
	msgs := make([]*nats.Msg, n)
	for i := range msgs {
		msgs[i] = nats.NewMsg(streams.EventSubject(alice, events.CardViewed))
		msgs[i].Header.Set(nats.MsgIdHdr, uuid.NewString())
		msgs[i].Data = fmt.Appendf(nil, `{"n":%d}`, i)
	}
	return msgs
}

func TestAtomicBatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		count  int
		change func(t *testing.T, js jetstream.JetStream, msgs []*nats.Msg)
		stored uint64
		atomic bool        // those of a batch are stored as one
		wrong  map[int]int // what the broker refuses: place to JetStream's code, or 0 if nobody takes it
		known  []int       // what the stream had before
	}{
		{name: "two batches of a thousand and what is left", count: 2500, stored: 2500, atomic: true},
		{name: "as few as make a batch", count: 20, stored: 20, atomic: true},
		{name: "too few: one by one", count: 19, stored: 19},
		{name: "one id is known: one by one, and that one is a repeat", count: 100, stored: 100, known: []int{7}, change: func(t *testing.T, js jetstream.JetStream, msgs []*nats.Msg) {
			if _, err := js.PublishMsg(t.Context(), msgs[7]); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "one id is in it twice: one by one, and the second is a repeat", count: 100, stored: 99, known: []int{60}, change: func(_ *testing.T, _ jetstream.JetStream, msgs []*nats.Msg) {
			msgs[60].Header.Set(nats.MsgIdHdr, msgs[50].Header.Get(nats.MsgIdHdr))
		}},
		{name: "one has a subject of no stream: the others are stored", count: 100, stored: 99, wrong: map[int]int{3: 0}, change: func(_ *testing.T, _ jetstream.JetStream, msgs []*nats.Msg) {
			msgs[3].Subject = "nobody.takes.it"
		}},
		{name: "one is larger than the stream takes: the others are stored", count: 30, stored: 29, wrong: map[int]int{29: 10054}, change: func(_ *testing.T, _ jetstream.JetStream, msgs []*nats.Msg) {
			msgs[29].Data = make([]byte, streams.MaxMessage+1)
		}},
		{name: "more than 4 MiB: one by one", count: 30, stored: 30, change: func(_ *testing.T, _ jetstream.JetStream, msgs []*nats.Msg) {
			for _, m := range msgs {
				m.Data = make([]byte, 150_000)
			}
		}},
		{name: "without headers: one by one", count: 30, stored: 30, change: func(_ *testing.T, _ jetstream.JetStream, msgs []*nats.Msg) {
			for _, m := range msgs {
				m.Header = nil
			}
		}},
		{name: "a stream that takes no batches: one by one", count: 30, stored: 30, change: func(t *testing.T, js jetstream.JetStream, _ []*nats.Msg) {
			s, err := js.Stream(t.Context(), streams.Events)
			if err != nil {
				t.Fatal(err)
			}
			cfg := s.CachedInfo().Config
			cfg.AllowAtomicPublish = false
			if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, js, _ := start(t)
			msgs := messages(tt.count)
			if tt.change != nil {
				tt.change(t, js, msgs)
			}
			acks, errs := streams.PublishAcks(t.Context(), streams.Atomic(js), msgs)
			for i, err := range errs {
				code, wrong := tt.wrong[i]
				var api *jetstream.APIError
				switch {
				case (err != nil) != wrong:
					t.Errorf("message %d: %v", i, err)
				case wrong && code != 0 && (!errors.As(err, &api) || int(api.ErrorCode) != code):
					t.Errorf("message %d: %v, want code %d", i, err, code)
				}
			}
			if n := stored(t, js); n != tt.stored {
				t.Errorf("%d messages stored, want %d", n, tt.stored)
			}
			checkAcks(t, js, msgs, acks, tt.known, tt.atomic)
		})
	}
}

// checkAcks looks up each message where the answer says that it is.
func checkAcks(t *testing.T, js jetstream.JetStream, msgs []*nats.Msg, acks []*jetstream.PubAck, known []int, atomic bool) {
	t.Helper()
	s, err := js.Stream(t.Context(), streams.Events)
	if err != nil {
		t.Fatal(err)
	}
	repeats := make(map[int]bool)
	for _, i := range known {
		repeats[i] = true
	}
	for i, ack := range acks {
		if ack == nil {
			continue
		}
		if ack.Duplicate != repeats[i] {
			t.Errorf("message %d: a repeat: %v", i, ack.Duplicate)
		}
		m, err := s.GetMsg(t.Context(), ack.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := m.Header.Get(nats.MsgIdHdr), msgs[i].Header.Get(nats.MsgIdHdr); got != want {
			t.Errorf("message %d is said to be number %d, which is %s, not %s", i, ack.Sequence, got, want)
		}
		if batched := m.Header.Get(jetstreamext.BatchIDHeader) != ""; batched != atomic {
			t.Errorf("message %d stored as one of a batch: %v", i, batched)
		}
	}
}

func TestAnAtomicBatchWithoutAnAnswerMayBeStored(t *testing.T) {
	t.Parallel()
	_, js, _ := start(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SILENT", Subjects: []string{"silent"}, NoAck: true, AllowAtomicPublish: true}); err != nil {
		t.Fatal(err)
	}
	msgs := messages(20)
	for _, m := range msgs {
		m.Subject = "silent"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	acks, errs := streams.PublishAcks(ctx, streams.Atomic(js), msgs)
	for i := range msgs {
		if !errors.Is(errs[i], context.DeadlineExceeded) || acks[i] != nil {
			t.Errorf("message %d: %v, %v", i, acks[i], errs[i])
		}
	}
}

// The first batch goes nowhere; EVENTS comes while its answer is awaited.
func TestAnAtomicBatchWithoutAnAnswerIsPublishedAgain(t *testing.T) {
	t.Parallel()
	_, js, _ := start(t)
	if err := js.DeleteStream(t.Context(), streams.Events); err != nil {
		t.Fatal(err)
	}
	published := make(chan struct{}, 20)
	if _, err := js.Conn().Subscribe(streams.AllEvents, func(*nats.Msg) {
		select {
		case published <- struct{}{}:
		default:
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool, 1)
	go func() {
		_, ok := streams.PublishAll(t.Context(), streams.Atomic(js), messages(20))
		done <- ok
	}()
	<-published
	if _, err := streams.EnsureStream(t.Context(), js, streams.DefaultConfig().EventsStream()); err != nil {
		t.Fatal(err)
	}
	if !<-done {
		t.Error("not stored")
	}
	if n := stored(t, js); n != 20 {
		t.Errorf("%d messages stored, want 20", n)
	}
}

// How fast the stream takes batches of 500 events of 512 bytes.
func BenchmarkPublishBatch(b *testing.B) {
	for _, sync := range []string{"1s", "always"} {
		for name, opts := range map[string][]events.PublisherOption{"one by one": nil, "atomic": {events.AtomicBatches()}} {
			b.Run("sync "+sync+"/"+name, func(b *testing.B) {
				s := startServer(b.TempDir(), func(o *server.Options) { o.SyncAlways, o.SyncInterval = sync == "always", time.Second })
				b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
				nc, err := nats.Connect(s.ClientURL())
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(nc.Close)
				p, err := events.NewPublisher(nc, opts...)
				if err != nil {
					b.Fatal(err)
				}
				js, err := jetstream.New(nc)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := js.UpdateStream(b.Context(), streams.DefaultConfig().EventsStream()); err != nil {
					b.Fatal(err)
				}
				batch := make([]events.Event, 500)
				filler := map[string]string{"filler": fmt.Sprintf("%0400d", 0)}
				for b.Loop() {
					for i := range batch {
						if batch[i], err = events.New(alice, events.CardViewed, filler); err != nil {
							b.Fatal(err)
						}
					}
					if errs, ok := p.PublishBatch(b.Context(), batch); !ok {
						b.Fatal(errs[0])
					}
				}
				b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
