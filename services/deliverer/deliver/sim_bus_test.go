package deliver

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/consume"
)

// A simBus is the stream DELIVERIES in memory: lanes and delay lines, acks, naks
// and ack waits. All of it is under the lock of the world.
type simBus struct {
	*simWorld
	seq     uint64
	msgs    []*simMsg
	changed chan struct{} // closed when there may be something to hand out
}

// A simMsg is a message of the stream, and what a reader gets of it.
type simMsg struct {
	jetstream.Msg
	bus     *simBus
	seq     uint64
	subject string
	data    []byte
	id      string    // Nats-Msg-Id
	at      time.Time // when it was stored
	visible time.Time // when it is handed out (again)
	reader  *simNode  // who had it last
	done    bool      // acked, but not removed: a disk was full
}

// store appends a message, and drops a repeat of an id that the stream still has.
func (b *simBus) store(m *nats.Msg) {
	id := m.Header.Get(nats.MsgIdHdr)
	for _, known := range b.msgs {
		if id != "" && known.id == id && time.Since(known.at) < streams.DeliveriesDedup {
			return
		}
	}
	b.seq++
	now := time.Now()
	b.msgs = append(b.msgs, &simMsg{bus: b, seq: b.seq, subject: m.Subject, data: m.Data, id: id, at: now, visible: now})
	b.wake()
}

func (b *simBus) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// of says whether a subject is under a filter that ends in ".>".
func of(subject, filter string) bool {
	return strings.HasPrefix(subject, strings.TrimSuffix(filter, ">"))
}

// wipe loses the whole store.
func (b *simBus) wipe() { b.msgs = nil }

// batches is consume.Batches on the bus, as one node's reader.
func (n *simNode) batches(ctx context.Context, _ jetstream.JetStream, _ zerolog.Logger, s consume.Source, handle func([]jetstream.Msg)) error {
	for ctx.Err() == nil {
		batch, next, changed := n.take(s)
		if len(batch) > 0 {
			handle(batch)
			continue
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
	}
	return nil
}

// take hands out what is visible, in order or not, or says when to look again.
func (n *simNode) take(s consume.Source) (batch []jetstream.Msg, next time.Duration, changed <-chan struct{}) {
	b := n.world.bus
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	next = time.Hour
	if n.dead {
		return nil, next, b.changed
	}
	now := time.Now()
	for _, m := range b.msgs {
		if m.done || !of(m.subject, s.Consumer.FilterSubject) {
			continue
		}
		if wait := m.visible.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if n.world.happens(n.world.faults.reorder) { // it comes after others, or to another reader
			m.visible = now.Add(n.world.upTo(300 * time.Millisecond))
			next = min(next, m.visible.Sub(now))
			continue
		}
		m.visible, m.reader = now.Add(s.Consumer.AckWait), n
		batch = append(batch, &simMsg{bus: b, seq: m.seq, subject: m.subject, data: m.data, reader: n})
		if n.world.happens(n.world.faults.repeat) { // it comes twice
			m.visible = now.Add(n.world.upTo(300 * time.Millisecond))
		}
		if len(batch) == s.MaxBatch {
			break
		}
	}
	rand.New(n.world.rnd).Shuffle(len(batch), func(i, j int) {
		if n.world.faults.reorder > 0 {
			batch[i], batch[j] = batch[j], batch[i]
		}
	})
	return batch, next, b.changed
}

// settled removes the message, or has it come again after a while. The process
// that is cut off settles nothing, nor does an ack that gets lost.
func (m *simMsg) settled(again time.Duration) error {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	if m.reader.dead || m.bus.happens(m.bus.faults.ackLost) {
		return errSimFault
	}
	for i, known := range m.bus.msgs {
		switch {
		case known.seq != m.seq:
		case again < 0 && m.bus.happens(m.bus.faults.stays):
			known.done = true
			return nil
		case again < 0:
			m.bus.msgs = append(m.bus.msgs[:i:i], m.bus.msgs[i+1:]...)
			return nil
		default:
			known.visible = time.Now().Add(again)
			m.bus.wake()
			return nil
		}
	}
	return nil
}

func (m *simMsg) Data() []byte                       { return m.data }
func (m *simMsg) Subject() string                    { return m.subject }
func (m *simMsg) Ack() error                         { return m.settled(-1) }
func (m *simMsg) Nak() error                         { return m.settled(0) }
func (m *simMsg) NakWithDelay(d time.Duration) error { return m.settled(d) }
func (m *simMsg) TermWithReason(reason string) error { m.bus.fail("Term'ed: %s", reason); return nil }

func (m *simMsg) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: m.seq}}, nil
}

// A simJS is what the steps use of JetStream, besides reading.
type simJS struct {
	jetstream.JetStream
	node *simNode
}

// A simAck is the future of a publish.
type simAck struct {
	jetstream.PubAckFuture
	ok  chan *jetstream.PubAck
	err chan error
}

func (a simAck) Ok() <-chan *jetstream.PubAck { return a.ok }
func (a simAck) Err() <-chan error            { return a.err }

// PublishMsgAsync stores the message, or not, and says so, or not, sooner or later.
func (j simJS) PublishMsgAsync(m *nats.Msg, _ ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	w := j.node.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if j.node.dead {
		return nil, errSimFault
	}
	a := simAck{ok: make(chan *jetstream.PubAck, 1), err: make(chan error, 1)}
	var after time.Duration
	if w.happens(w.faults.slow) {
		after = w.upTo(8 * time.Second) // longer than any caller waits, sometimes
	}
	stored, said := !w.happens(w.faults.fails), !w.happens(w.faults.failsStored)
	if stored {
		w.bus.store(m)
	}
	answer := func() {
		if stored && said {
			a.ok <- &jetstream.PubAck{Stream: streams.Deliveries}
			return
		}
		a.err <- errSimFault
	}
	if after == 0 {
		answer()
	} else {
		time.AfterFunc(after, answer)
	}
	return a, nil
}

func (j simJS) Stream(context.Context, string) (jetstream.Stream, error) {
	if err := j.node.reach(j.node.world.faults.fails); err != nil {
		return nil, err
	}
	return simStream{node: j.node}, nil
}

// Consumer is asked by the sweeper how far a lane is done, and how long it is: that it does not know.
func (j simJS) Consumer(_ context.Context, _, name string) (jetstream.Consumer, error) {
	if err := j.node.reach(j.node.world.faults.fails); err != nil {
		return nil, err
	}
	w := j.node.world
	w.mu.Lock()
	defer w.mu.Unlock()
	floor := w.bus.seq
	for _, m := range w.bus.msgs {
		if !m.done && of(m.subject, "deliveries."+name+".>") {
			floor = m.seq - 1
			break
		}
	}
	return simConsumer{info: &jetstream.ConsumerInfo{AckFloor: jetstream.SequenceInfo{Stream: floor}, NumPending: math.MaxInt32}}, nil
}

type simConsumer struct {
	jetstream.Consumer
	info *jetstream.ConsumerInfo
}

func (c simConsumer) CachedInfo() *jetstream.ConsumerInfo { return c.info }

type simStream struct {
	jetstream.Stream
	node *simNode
}

// GetMsg returns the oldest message under a subject, from a sequence on. Which one the option says
// in a type that the client does not export: as JSON it is that of the protocol.
func (s simStream) GetMsg(_ context.Context, from uint64, opts ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	request := reflect.New(reflect.TypeOf(opts[0]).In(0).Elem())
	if err, _ := reflect.ValueOf(opts[0]).Call([]reflect.Value{request})[0].Interface().(error); err != nil {
		return nil, err
	}
	data, err := json.Marshal(request.Interface())
	if err != nil {
		return nil, err
	}
	var asked struct {
		Filter string `json:"next_by_subj"`
	}
	if err := json.Unmarshal(data, &asked); err != nil {
		return nil, err
	}
	w := s.node.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.bus.msgs {
		if m.seq >= from && of(m.subject, asked.Filter) {
			return &jetstream.RawStreamMsg{Time: m.at}, nil
		}
	}
	return nil, jetstream.ErrMsgNotFound
}
