package deliver

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
)

// A simBus is the stream DELIVERIES in memory: the lanes and the delay lines, each
// with its consumer. It keeps a message until it is acked, hands it out again
// after the ack wait, and may lose its whole store.
type simBus struct {
	plan  *plan
	mu    sync.Mutex // held for moments only
	lines map[string]*simLine
	seq   uint64
}

// A simLine is the messages of one consumer.
type simLine struct {
	ready chan struct{} // there is something to hand out
	queue []*simMsg
	all   map[uint64]*simMsg // not acked
}

func newSimBus(p *plan) *simBus { return &simBus{plan: p, lines: make(map[string]*simLine)} }

// line is that of a consumer's name; b.mu is held.
func (b *simBus) line(name string) *simLine {
	l := b.lines[name]
	if l == nil {
		l = &simLine{ready: make(chan struct{}, 1), all: make(map[uint64]*simMsg)}
		b.lines[name] = l
	}
	return l
}

// wipe loses all that is stored.
func (b *simBus) wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
		l.queue, l.all = nil, make(map[uint64]*simMsg)
	}
}

// put stores a message, at its place or, as a fault, before others.
func (b *simBus) put(subject string, data []byte) {
	name := strings.Split(subject, ".")[1]
	if name == "wait" {
		name = "wait-" + strings.Split(subject, ".")[2]
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	l := b.line(name)
	m := &simMsg{bus: b, line: l, subject: subject, data: data, seq: b.seq, at: time.Now()}
	l.all[m.seq] = m
	l.offer(m, b.plan.draw(twice) == twice)
}

// offer has a message handed out, first or last; b.mu is held.
func (l *simLine) offer(m *simMsg, first bool) {
	if first {
		l.queue = slices.Insert(l.queue, 0, m)
	} else {
		l.queue = append(l.queue, m)
	}
	l.wake()
}

func (l *simLine) wake() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// A simMsg is a message; Msg's other methods are not called.
type simMsg struct {
	jetstream.Msg
	bus     *simBus
	line    *simLine
	subject string
	data    []byte
	seq     uint64
	at      time.Time
	process *simProcess // who has it
	wait    *time.Timer // until it is handed out again
}

func (m *simMsg) Data() []byte    { return m.data }
func (m *simMsg) Subject() string { return m.subject }

func (m *simMsg) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: m.seq}, Timestamp: m.at}, nil
}

// Ack is lost by every fault: the message comes again.
func (m *simMsg) Ack() error {
	if m.process.dead.Load() || m.bus.plan.draw(before) != none {
		return errSim
	}
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	m.wait.Stop()
	delete(m.line.all, m.seq)
	return nil
}

func (m *simMsg) TermWithReason(string) error { return m.Ack() }

func (m *simMsg) Nak() error { return m.NakWithDelay(0) }

func (m *simMsg) NakWithDelay(d time.Duration) error {
	if m.process.dead.Load() || m.bus.plan.draw(before) != none {
		return errSim
	}
	m.wait.Reset(d)
	return nil
}

// again hands a message out again, if it still is there.
func (m *simMsg) again() {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	if m.line.all[m.seq] == m {
		m.line.offer(m, false)
	}
}

// A simJS is the bus as one process has it.
type simJS struct {
	jetstream.JetStream
	*simBus
	process *simProcess
}

func (j *simJS) Conn() *nats.Conn { return nil }

func (j *simJS) Stream(context.Context, string) (jetstream.Stream, error) {
	if j.process.dead.Load() || j.plan.draw(before) != none {
		return nil, errSim
	}
	return simStream{simBus: j.simBus}, nil
}

func (j *simJS) CreateOrUpdateConsumer(_ context.Context, _ string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	if j.plan.draw(before) != none {
		return nil, errSim
	}
	return &simConsumer{js: j, cfg: cfg}, nil
}

func (j *simJS) PublishMsgAsync(m *nats.Msg, _ ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	f := &simFuture{ok: make(chan *jetstream.PubAck, 1), err: make(chan error, 1)}
	kind := j.plan.draw(before, after, late, twice)
	if j.process.dead.Load() || kind == before {
		return nil, errSim
	}
	j.put(m.Subject, m.Data)
	switch kind {
	case after:
		f.err <- errSim
	case late:
		time.AfterFunc(j.plan.between(0, 15*time.Second), func() { f.ok <- nil })
	case twice:
		j.put(m.Subject, m.Data)
		f.ok <- nil
	default:
		f.ok <- nil
	}
	return f, nil
}

type simFuture struct {
	jetstream.PubAckFuture
	ok  chan *jetstream.PubAck
	err chan error
}

func (f *simFuture) Ok() <-chan *jetstream.PubAck { return f.ok }
func (f *simFuture) Err() <-chan error            { return f.err }

type simStream struct {
	jetstream.Stream
	*simBus
}

// GetMsg returns the oldest message of either lane: the sweeper asks for both
// and takes the older.
func (s simStream) GetMsg(context.Context, uint64, ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest *simMsg
	for _, name := range []string{streams.First, streams.Again} {
		for _, m := range s.line(name).all {
			if oldest == nil || m.seq < oldest.seq {
				oldest = m
			}
		}
	}
	if oldest == nil {
		return nil, jetstream.ErrMsgNotFound
	}
	return &jetstream.RawStreamMsg{Time: oldest.at}, nil
}

type simConsumer struct {
	jetstream.Consumer
	js  *simJS
	cfg jetstream.ConsumerConfig
}

func (c *simConsumer) Messages(...jetstream.PullMessagesOpt) (jetstream.MessagesContext, error) {
	c.js.mu.Lock()
	defer c.js.mu.Unlock()
	return &simMessages{c: c, line: c.js.line(c.cfg.Durable), stop: make(chan struct{})}, nil
}

type simMessages struct {
	c    *simConsumer
	line *simLine
	once sync.Once
	stop chan struct{}
}

func (m *simMessages) Stop()  { m.once.Do(func() { close(m.stop) }) }
func (m *simMessages) Drain() { m.Stop() }

// Next hands out one message: in its place, and the ack wait begins.
func (m *simMessages) Next(...jetstream.NextOpt) (jetstream.Msg, error) {
	for {
		select {
		case <-m.stop:
			return nil, jetstream.ErrMsgIteratorClosed
		case <-m.line.ready:
		}
		if msg := m.take(); msg != nil {
			return msg, nil
		}
	}
}

func (m *simMessages) take() jetstream.Msg {
	b := m.c.js.simBus
	b.mu.Lock()
	defer b.mu.Unlock()
	var msg *simMsg
	for msg == nil && len(m.line.queue) > 0 {
		first := m.line.queue[0]
		m.line.queue = m.line.queue[1:]
		if m.line.all[first.seq] == first {
			msg = first
		}
	}
	if len(m.line.queue) > 0 {
		m.line.wake()
	}
	if msg == nil {
		return nil
	}
	if msg.wait != nil {
		msg.wait.Stop()
	}
	handed := *msg // the one before may still be acked by who has it
	handed.process = m.c.js.process
	handed.wait = time.AfterFunc(m.c.cfg.AckWait, handed.again)
	m.line.all[msg.seq] = &handed
	return &handed
}
