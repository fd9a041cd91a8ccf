package consume

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// mostKept is how long a message is kept at most. What takes longer, because
// PostgreSQL is away, is handed out again and changes nothing; what was forgotten
// by a mistake of ours is not lost until the next restart.
const mostKept = 10 * time.Minute

// A keeper tells the broker, of the messages that were fetched and are neither
// answered nor left, that they are being worked on. So the ack wait is how soon
// the broker notices that a reader is gone or a message was lost on its way,
// and not how long work may take.
//
// It does not know what lies in the client's own buffer, at most a batch, while
// work stands still: that comes again, into the same buffer, which does not grow by it (with
// PostgreSQL locked for a minute, 344 messages of 2,400), or to another replica.
type keeper struct {
	ackWait time.Duration
	mu      sync.Mutex
	kept    map[place]*message
}

// A place is where a message is. Its sequence alone does not tell: a stream that
// was made anew counts from 1 again.
type place struct {
	sequence uint64
	at       int64 // when the stream stored it, Unix ns
}

// A message is one that is kept until it is answered.
type message struct {
	jetstream.Msg
	keeper *keeper
	place  place
	came   time.Time
	told   time.Time // when the broker last heard of it, or handed it out; the keeper's
}

func newKeeper(ackWait time.Duration) *keeper {
	return &keeper{ackWait: ackWait, kept: make(map[place]*message)}
}

// keep keeps a message from now on. It is not new if it is kept already, as it
// was handed out again for want of word from us: then whoever has the first
// copy answers for both.
func (k *keeper) keep(m jetstream.Msg) (kept jetstream.Msg, isNew bool) {
	meta, err := m.Metadata()
	if err != nil { // no message of a stream
		return m, true
	}
	now := time.Now()
	at := place{meta.Sequence.Stream, meta.Timestamp.UnixNano()}
	k.mu.Lock()
	defer k.mu.Unlock()
	if known := k.kept[at]; known != nil {
		known.told = now
		return known, false
	}
	msg := &message{Msg: m, keeper: k, place: at, came: now, told: now}
	k.kept[at] = msg
	return msg, true
}

// run tells the broker, until ctx ends: of each message at half of the ack wait,
// or a sixth of it later.
func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(k.ackWait / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, m := range k.due(now) {
				if m.InProgress() == nil { // else at the next tick
					k.mu.Lock()
					m.told = now
					k.mu.Unlock()
				}
			}
		}
	}
}

// due are the messages of which the broker is to hear now.
func (k *keeper) due(now time.Time) (due []*message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for at, m := range k.kept {
		switch {
		case now.Sub(m.came) > mostKept:
			delete(k.kept, at)
		case now.Sub(m.told) >= k.ackWait/2:
			due = append(due, m)
		}
	}
	return due
}

func (k *keeper) forget(m *message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept[m.place] == m {
		delete(k.kept, m.place)
	}
}

// Leave leaves a message of a batch to its ack wait: it comes again after that.
func Leave(m jetstream.Msg) {
	if m, ok := m.(*message); ok {
		m.keeper.forget(m)
	}
}

// Ack implements [jetstream.Msg]. Whatever the answer, and whether or not it can
// be sent, the message is no longer kept.
func (m *message) Ack() error {
	Leave(m)
	return m.Msg.Ack()
}

// DoubleAck implements [jetstream.Msg], like Ack.
func (m *message) DoubleAck(ctx context.Context) error {
	Leave(m)
	return m.Msg.DoubleAck(ctx)
}

// Nak implements [jetstream.Msg], like Ack.
func (m *message) Nak() error {
	Leave(m)
	return m.Msg.Nak()
}

// NakWithDelay implements [jetstream.Msg], like Ack.
func (m *message) NakWithDelay(delay time.Duration) error {
	Leave(m)
	return m.Msg.NakWithDelay(delay)
}

// Term implements [jetstream.Msg], like Ack.
func (m *message) Term() error {
	Leave(m)
	return m.Msg.Term()
}

// TermWithReason implements [jetstream.Msg], like Ack.
func (m *message) TermWithReason(reason string) error {
	Leave(m)
	return m.Msg.TermWithReason(reason)
}
