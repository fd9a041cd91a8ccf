package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
)

// roomPoll is how often whoever waits for room in the gate looks by itself.
const roomPoll = 50 * time.Millisecond

// held knows the items that the gate holds, so that a delivery is held once.
type held struct {
	mu    sync.Mutex
	items map[uuid.UUID]*item
}

// add says whether it is new. If not, the item that is held keeps its message
// or takes the new one, and the other, if there is one, is returned: it is to be
// acked, as one message is enough.
func (h *held) add(it *item) (isNew bool, spare jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.items[it.delivery.ID]
	switch {
	case known == nil:
		h.items[it.delivery.ID] = it
		return true, nil
	case it.msg == nil:
		return false, nil
	case known.msg == nil || sequence(known.msg) == sequence(it.msg): // its ack wait ran out
		known.msg = it.msg
		return false, nil
	default:
		return false, it.msg
	}
}

// sequence is a message's place in its stream.
func sequence(m jetstream.Msg) uint64 {
	meta, err := m.Metadata()
	if err != nil {
		return 0
	}
	return meta.Sequence.Stream
}

func (h *held) remove(it *item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.items, it.delivery.ID)
}

// take hands the messages of a lane to the gate, and parks what that does not
// hold. It waits while there is no room, which ends as attempts begin: what can't
// begin is parked.
func (w *Worker) take(ctx context.Context, msgs []jetstream.Msg, lane int) {
	var park []parking
	for i, m := range msgs {
		d, ok := w.decode(m)
		if !ok {
			continue
		}
		if d.Probe {
			w.gate.Probe(w.now(), d.EndpointID)
		}
		it := &item{delivery: d, msg: m}
		isNew, spare := w.held.add(it)
		if spare != nil {
			w.sent(spare.Ack())
		}
		if !isNew {
			continue
		}
		answer := w.gate.Offer(w.now(), d.EndpointID, lane, it)
		for answer.Full {
			w.park(ctx, park)
			park = nil
			select {
			case <-ctx.Done(): // another replica gets them at once
				w.held.remove(it)
				for _, m := range msgs[i:] {
					w.sent(m.Nak())
				}
				return
			case <-w.gate.Room():
			case <-time.After(roomPoll): // another lane may have taken the news
			}
			answer = w.gate.Offer(w.now(), d.EndpointID, lane, it)
		}
		if answer.Reason != "" {
			w.held.remove(it)
			park = append(park, parking{it, answer.Reason, answer.Until})
		}
	}
	w.park(ctx, park)
}
