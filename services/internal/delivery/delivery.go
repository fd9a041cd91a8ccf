// Package delivery is the shape that fan-out hands to the deliverer.
package delivery

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events/streams"
)

// A Delivery is one event on its way to one endpoint. As a message it is a
// JSON object of ids, under 250 bytes. Body, URL and secrets stay in PostgreSQL
// and are read at each attempt: an edited endpoint takes effect on the next
// one, and what waits in a delay line costs next to nothing.
type Delivery struct {
	ID         uuid.UUID `json:"id"` // see ID
	EventID    uuid.UUID `json:"eventId"`
	EndpointID uuid.UUID `json:"endpointId"`
	// NotBefore is when the next attempt is due, by PostgreSQL's clock; zero
	// for a first try. The delay line goes by it; the claim has the last word.
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Probe says that a person asked for this attempt, to see: it is made even if
	// the endpoint's circuit is open. A probe that gets lost is a delivery like others.
	Probe bool `json:"probe,omitempty"`
}

// What makes a delivery pending: the column trigger of deliveries and attempts.
const (
	TriggerEvent   = "event"   // its event was fanned out
	TriggerTest    = "test"    // the same, of a test event
	TriggerResend  = "resend"  // its owner had it sent again
	TriggerRecover = "recover" // a recovery had it sent again, or made it
	TriggerReplay  = "replay"  // a replay made it
)

// ID derives the id of a delivery: the 48 bits of time of the event's id, then
// bits of a hash of event and endpoint, in the form of a UUIDv7. The same pair
// always gives the same id, and ids sort by the time of their events.
func ID(eventID, endpointID uuid.UUID) uuid.UUID {
	var in [32]byte
	copy(in[:16], eventID[:])
	copy(in[16:], endpointID[:])
	return derive(eventID, sha256.Sum256(in[:]))
}

// ReplayID is ID for a delivery that a replay makes: the replay's id is hashed
// too, so each replay has its own delivery of the pair, and that one always.
func ReplayID(eventID, endpointID, replayID uuid.UUID) uuid.UUID {
	var in [48]byte
	copy(in[:16], eventID[:])
	copy(in[16:], endpointID[:])
	copy(in[32:], replayID[:])
	return derive(eventID, sha256.Sum256(in[:]))
}

// Siblings are the bounds of the ids of all deliveries of an event, whatever made
// them; deliveries of other events of the same millisecond lie between them too.
func Siblings(eventID uuid.UUID) (low, high uuid.UUID) {
	copy(low[:6], eventID[:6])
	high = uuid.Max
	copy(high[:6], eventID[:6])
	return low, high
}

func derive(eventID uuid.UUID, sum [sha256.Size]byte) uuid.UUID {
	var id uuid.UUID
	copy(id[:6], eventID[:6])
	copy(id[6:], sum[:10])
	id[6] = id[6]&0x0f | 0x70 // version 7
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return id
}

// FirstMsg is the message of a first try. A repeat within the stream's window is dropped.
func (d Delivery) FirstMsg() *nats.Msg {
	return d.msg(streams.FirstSubject(d.EndpointID), d.ID.String())
}

// WaitMsg puts the delivery into the delay line of a step.
func (d Delivery) WaitMsg(step time.Duration) *nats.Msg {
	return d.msg(streams.WaitSubject(step, d.EndpointID), "")
}

// AgainMsg is the message of a retry that is due. It has no message id: the
// sweeper may have to publish it again within the stream's window.
func (d Delivery) AgainMsg() *nats.Msg { return d.msg(streams.AgainSubject(d.EndpointID), "") }

func (d Delivery) msg(subject, id string) *nats.Msg {
	m := nats.NewMsg(subject)
	if id != "" {
		m.Header.Set(nats.MsgIdHdr, id)
	}
	data, err := json.Marshal(d)
	if err != nil {
		panic(err) // a struct of ids and a time always marshals
	}
	m.Data = data
	return m
}

// Decode reads a message of any of the three kinds.
func Decode(data []byte) (Delivery, error) {
	var d Delivery
	if err := json.Unmarshal(data, &d); err != nil {
		return Delivery{}, fmt.Errorf("decode delivery: %w", err)
	}
	if d.ID == uuid.Nil || d.EventID == uuid.Nil || d.EndpointID == uuid.Nil {
		return Delivery{}, fmt.Errorf("decode delivery: id, eventId and endpointId must be set")
	}
	return d, nil
}

// Bounds are around the ids of some deliveries, which are not empty, and those of
// their events: they begin with the same millisecond. Queries name them, so that
// only the partitions between them are read.
func Bounds(ids []uuid.UUID) (low, high uuid.UUID) {
	first, last := ids[0], ids[0]
	for _, id := range ids[1:] {
		if bytes.Compare(id[:], first[:]) < 0 {
			first = id
		}
		if bytes.Compare(id[:], last[:]) > 0 {
			last = id
		}
	}
	low, _ = Siblings(first)
	_, high = Siblings(last)
	return low, high
}
