// Package events is what a service imports to publish domain events to
// Cardwire. An [Event] says what happened to whom; a [Publisher] hands it to
// the stream and returns once the stream has it. Where the event must be tied
// to a database transaction, or the broker may be away, use the outbox
// package beside this one.
package events

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events/streams"
)

// Types that this project publishes itself. Any service may publish others.
const (
	CardViewed   = "card.viewed"
	ContactSaved = "contact.saved"
	// Test is a test of one endpoint, which data.endpointId names. It goes there
	// and nowhere else, whatever endpoints ask for.
	Test = "webhook.test"

	// Operational events: what became of deliveries and endpoints, to the owner's
	// other endpoints that ask for them.
	EndpointDisabled = "endpoint.disabled"
	AttemptExhausted = "message.attempt.exhausted" // all attempts of a delivery failed
	AttemptRecovered = "message.attempt.recovered" // it was delivered after all
)

// Operational says whether a type is one of the operational events. No further
// one comes of what becomes of it.
func Operational(eventType string) bool {
	switch eventType {
	case EndpointDisabled, AttemptExhausted, AttemptRecovered:
		return true
	}
	return false
}

// Limits of an event. Whoever breaks one gets an [InvalidError].
const (
	MaxBody       = 256 << 10 // bytes of the JSON body
	MaxDepth      = 64        // nesting of the JSON body
	MaxType       = 128       // bytes of the type
	MaxAttributes = 16        // entries
	MaxAttribute  = 1 << 10   // bytes of one attribute's value
)

// An Event is something that happened to something a user owns. As a message
// it is its body, on the subject events.<user_id>.<type>, with its id in the
// header Nats-Msg-Id.
type Event struct {
	ID     uuid.UUID // UUIDv7, made by the publisher; receivers get it as webhook-id
	UserID uuid.UUID // the owner: whose endpoints get the event
	Type   string    // such as "card.viewed": see ValidateType
	Time   time.Time // when it happened; the body's timestamp

	// Body is the JSON object {"type", "timestamp", "data"} of Standard
	// Webhooks. Receivers get exactly these bytes: the signatures cover them.
	Body []byte

	// Attributes travel with the event inside Cardwire and are never sent to a
	// receiver. Keys are lower-case words joined by dashes.
	Attributes map[string]string

	// Trace is the trace that the event belongs to, as the header traceparent of
	// W3C Trace Context has it; empty for none. It travels like an attribute, in
	// the message header traceparent. One that breaks the format is left out.
	Trace string
}

// New makes an event of now with a fresh id. data becomes the body's "data"
// and must marshal to a JSON object. The event is checked: the error is an
// [*InvalidError].
func New(userID uuid.UUID, eventType string, data any, options ...Option) (Event, error) {
	o := choices{at: time.Now()}
	for _, set := range options {
		set(&o)
	}
	if o.id == uuid.Nil {
		var err error
		if o.id, err = idAt(o.at); err != nil {
			return Event{}, err
		}
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return Event{}, invalid("data", "must marshal to JSON: "+err.Error())
	}
	at := o.at.UTC().Truncate(time.Microsecond)
	body, err := json.Marshal(envelope{Type: eventType, Timestamp: at, Data: raw})
	if err != nil {
		return Event{}, invalid("data", "must marshal to JSON: "+err.Error())
	}
	e := Event{ID: o.id, UserID: userID, Type: eventType, Time: at, Body: body, Trace: o.trace}
	if err := e.Validate(); err != nil {
		return Event{}, err
	}
	return e, nil
}

// NewAt is New with [WithTime].
func NewAt(at time.Time, userID uuid.UUID, eventType string, data any) (Event, error) {
	return New(userID, eventType, data, WithTime(at))
}

// idAt is a UUIDv7 of a given time: the library only makes those of now.
func idAt(at time.Time) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make event id: %w", err)
	}
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id, nil
}

// IDTime is the time in a UUIDv7, to the millisecond.
func IDTime(id uuid.UUID) time.Time {
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms).UTC()
}

// attributePrefix begins the headers that carry attributes.
const attributePrefix = "Cardwire-Attr-"

// Msg is the event as it is published.
func (e Event) Msg() *nats.Msg {
	m := nats.NewMsg(streams.EventSubject(e.UserID, e.Type))
	m.Header.Set(nats.MsgIdHdr, e.ID.String())
	for k, v := range e.Attributes {
		m.Header.Set(attributePrefix+k, v)
	}
	if isTraceparent(e.Trace) {
		m.Header.Set(traceHeader, e.Trace)
	}
	m.Data = e.Body
	return m
}

// Decode is the inverse of [Event.Msg]. It accepts what any NATS client
// publishes by the same convention; every error is an [*InvalidError] that
// names the part and the rule. body is kept, not copied.
func Decode(subject string, header nats.Header, body []byte) (Event, error) {
	userID, eventType, err := streams.ParseEventSubject(subject)
	if err != nil {
		_, rule, _ := strings.Cut(err.Error(), ": ")
		return Event{}, invalid("subject", rule)
	}
	raw := header.Get(nats.MsgIdHdr)
	id, err := uuid.Parse(raw)
	if err != nil || len(raw) != 36 {
		return Event{}, invalid("header "+nats.MsgIdHdr, "must be the event's id, a UUIDv7")
	}
	e := Event{ID: id, UserID: userID, Type: eventType, Body: body}
	if trace := header.Get(traceHeader); isTraceparent(trace) {
		e.Trace = trace
	}
	for k, v := range header {
		if key, ok := strings.CutPrefix(k, attributePrefix); ok && len(v) > 0 {
			if e.Attributes == nil {
				e.Attributes = make(map[string]string)
			}
			e.Attributes[key] = v[0]
		}
	}
	at, err := e.check()
	if err != nil {
		return Event{}, err
	}
	e.Time = at
	return e, nil
}

// AttributeNames lists the attributes in order.
func (e Event) AttributeNames() []string { return slices.Sorted(maps.Keys(e.Attributes)) }

// envelope is the body of an event, as Standard Webhooks has it.
type envelope struct {
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}
