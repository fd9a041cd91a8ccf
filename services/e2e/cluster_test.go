package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
)

// An ack is the stream's word for one event.
type ack struct {
	id uuid.UUID
	by int // publisher
	at time.Time
}

// A load is three publishers, each on a server of its own as long as that is
// there, that publish events and repeat each until the stream has it.
type load struct {
	conns [3]*nats.Conn
	stop  func() // returns when each has its last ack

	mu   sync.Mutex
	acks []ack
}

// Of each publisher: enough to see pauses, and little enough for a busy machine.
const (
	publishPause   = 20 * time.Millisecond
	publishTimeout = 2 * time.Second // for one try
)

func startLoad(c *cluster, event func() events.Event) *load {
	c.t.Helper()
	l := &load{}
	stopped := make(chan struct{})
	var wg sync.WaitGroup
	l.stop = sync.OnceFunc(func() { close(stopped); wg.Wait() })
	for i := range l.conns {
		l.conns[i] = c.connectTo("publisher", i, nats.DontRandomize())
		pub, err := events.NewPublisher(l.conns[i])
		if err != nil {
			c.t.Fatal(err)
		}
		wg.Go(func() {
			tick := time.NewTicker(publishPause)
			defer tick.Stop()
			for {
				select {
				case <-stopped:
					return
				case <-tick.C:
				}
				e := event()
				for publishOnce(c.t.Context(), pub, e) != nil {
					if c.t.Context().Err() != nil {
						return
					}
					<-tick.C
				}
				l.mu.Lock()
				l.acks = append(l.acks, ack{e.ID, i, time.Now()})
				l.mu.Unlock()
			}
		})
	}
	c.t.Cleanup(l.stop)
	return l
}

func publishOnce(ctx context.Context, pub *events.Publisher, e events.Event) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return pub.Publish(ctx, e)
}

// await waits until publishers have n acks more, each: those on a server that is
// cut off don't count.
func (l *load) await(t *testing.T, n int, cutOff *node) {
	t.Helper()
	l.mu.Lock()
	from := len(l.acks)
	l.mu.Unlock()
	until(t, fmt.Sprintf("%d more acks for each publisher", n), func(context.Context) error {
		l.mu.Lock()
		var got [3]int
		for _, a := range l.acks[from:] {
			got[a.by]++
		}
		l.mu.Unlock()
		for i, nc := range l.conns {
			if got[i] < n && (cutOff == nil || nc.ConnectedServerName() != cutOff.name) {
				return fmt.Errorf("publisher %d has %d", i, got[i])
			}
		}
		return nil
	})
}

// spread has each publisher on a server of its own again.
func (l *load) spread(c *cluster) {
	c.t.Helper()
	for i, nc := range l.conns {
		until(c.t, fmt.Sprintf("publisher %d on its server", i), func(context.Context) error {
			name := nc.ConnectedServerName()
			if name == c.nodes[i].name {
				return nil
			}
			if name != "" { // on to the next
				if err := nc.ForceReconnect(); err != nil {
					return err
				}
			}
			return fmt.Errorf("it is on %q", name)
		})
	}
}

// pauses are the longest time since a fault without an ack for anybody, and
// for whoever had the longest.
func (l *load) pauses(since time.Time) (all, one time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := since
	var lastOf [3]time.Time
	for _, a := range l.acks {
		if a.at.After(since) {
			all = max(all, a.at.Sub(last))
			last = a.at
			if lastOf[a.by].IsZero() {
				lastOf[a.by] = since
			}
			one = max(one, a.at.Sub(lastOf[a.by]))
			lastOf[a.by] = a.at
		}
	}
	return all, one
}

// Three servers as deploy/nats-cluster has them, and R3 streams. One is frozen by
// SIGSTOP, for the others and for its clients; one is cut off from the others and goes
// on talking to its clients. In both cases connections stay, and nothing comes over them.
func TestAClusterOfThreeLosesNoEvent(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	p := &pipeline{Env: steptest.On(t, c.connect)}
	p.Streams.Replicas = 3
	got := &receipts{count: make(map[string]int)}
	receiver := httptest.NewServer(got)
	t.Cleanup(receiver.Close)
	p.Exec(`INSERT INTO users (id, username, display_name) VALUES ($1, 'alice', 'Alice')`, alice)
	p.Endpoint(alice, receiver.URL)
	fan, err := fanout.New(fanout.Config{Retention: 24 * time.Hour, FanoutBatch: 100}, p.Deps("webhooks"))
	if err != nil {
		t.Fatal(err)
	}
	p.Run(fan)
	p.deliver()

	l := startLoad(c, func() events.Event {
		e, err := events.New(alice, events.CardViewed, viewed)
		if err != nil {
			panic(err)
		}
		return e
	})
	l.await(t, 50, nil)
	fault := func(name string, do func()) {
		l.spread(c)
		begin := time.Now()
		do()
		c.awaitHealth()
		l.await(t, 50, nil)
		all, one := l.pauses(begin)
		t.Logf("%s: no ack for %s; the publisher that waited longest had none for %s", name, all.Round(time.Millisecond), one.Round(time.Millisecond))
	}
	fault("leader killed", func() {
		n := c.leader()
		n.child.Stop()
		l.await(t, 50, nil)
		n.start(t)
	})
	fault("leader frozen", func() { freeze(t, l, c.leader()) })
	fault("follower frozen", func() { freeze(t, l, c.follower()) })
	fault("leader cut off", func() { cutOff(t, c, l, c.leader()) })
	fault("follower cut off", func() { cutOff(t, c, l, c.follower()) })
	for _, n := range c.nodes {
		fault(n.name+" restarted", func() {
			if !n.child.Terminate(clusterBound) {
				t.Errorf("%s did not stop when told to", n.name)
			}
			n.start(t)
		})
	}
	l.stop()
	accountFor(t, c, p, l.acks, got)
}

// cutOff cuts a server off from the others, until these have gone on without it.
func cutOff(t *testing.T, c *cluster, l *load, n *node) {
	t.Helper()
	c.isolate(n, true)
	defer c.isolate(n, false)
	l.await(t, 100, n)
}

// freeze stops a server until the others have gone on without it.
func freeze(t *testing.T, l *load, n *node) {
	t.Helper()
	n.child.Signal(syscall.SIGSTOP)
	defer n.child.Signal(syscall.SIGCONT)
	l.await(t, 100, n)
}

// accountFor checks that each event that was acked is in the stream once, and
// was delivered.
func accountFor(t *testing.T, c *cluster, p *pipeline, acks []ack, got *receipts) {
	t.Helper()
	stored := storedEvents(t, c.js)
	if len(stored) != len(acks) {
		t.Errorf("%d events are in the stream, %d were acked", len(stored), len(acks))
	}
	for _, a := range acks {
		if n := stored[a.id.String()]; n != 1 {
			t.Errorf("event %s was acked and is in the stream %d times, want once", a.id, n)
		}
	}
	until(t, "all delivered", func(ctx context.Context) error {
		var n int
		err := p.DB.QueryRow(ctx, `SELECT count(*) FROM deliveries WHERE status = 'success'`).Scan(&n)
		if err == nil && n != len(acks) {
			err = fmt.Errorf("%d of %d", n, len(acks))
		}
		return err
	})
	got.mu.Lock()
	defer got.mu.Unlock()
	posts, lost := 0, 0
	for _, a := range acks {
		n := got.count[a.id.String()]
		posts += n
		if n == 0 {
			lost++
		}
	}
	t.Logf("%d events acked, %d POSTs, %d lost", len(acks), posts, lost)
	if lost != 0 {
		t.Errorf("%d of %d events never arrived", lost, len(acks))
	}
}

// storedEvents counts what is in EVENTS by event id.
func storedEvents(t *testing.T, js jetstream.JetStream) map[string]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clusterBound)
	defer cancel()
	s, err := js.Stream(ctx, streams.Events)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := all.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer msgs.Stop()
	stored := make(map[string]int)
	for range s.CachedInfo().State.Msgs {
		m, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		stored[m.Headers().Get(jetstream.MsgIDHeader)]++
	}
	return stored
}

// receipts is an endpoint that counts POSTs by webhook-id.
type receipts struct {
	mu    sync.Mutex
	count map[string]int
}

func (r *receipts) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.count[req.Header.Get("Webhook-Id")]++
	r.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}
