package events

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// An Option of [New] replaces what it would choose itself.
type Option func(*choices)

type choices struct {
	id    uuid.UUID
	at    time.Time
	trace string
}

// WithID gives the event an id: a UUIDv7 that the publisher has kept, so that
// making and publishing the event again is a repeat. Two events must not share one.
// The time of the event should then be given too, as a repeat has the same body.
func WithID(id uuid.UUID) Option { return func(o *choices) { o.id = id } }

// WithTime is for something that happened at another time than now. Unless
// [WithID] gives it, the id is of that time too, in milliseconds: it decides which
// daily partition the event's rows live in, so it must lie within the retention
// time, and not in the future.
func WithTime(at time.Time) Option { return func(o *choices) { o.at = at } }

// WithTrace ties the event to a trace, see Event.Trace. Pass the header
// traceparent of the request that caused it, or what your tracer makes of its span.
func WithTrace(traceparent string) Option { return func(o *choices) { o.trace = traceparent } }

// traceHeader is the name of the message header, as W3C spells it: names of NATS
// headers are told apart by case.
const traceHeader = "traceparent"

// isTraceparent says whether s is a traceparent of version 00:
// 00-<32 hex>-<16 hex>-<2 hex>, in small letters, neither id all zeros.
func isTraceparent(s string) bool {
	if len(s) != 55 || !strings.HasPrefix(s, "00-") || s[35] != '-' || s[52] != '-' {
		return false
	}
	trace, span, flags := s[3:35], s[36:52], s[53:]
	return isHex(trace) && isHex(span) && isHex(flags) && strings.Trim(trace, "0") != "" && strings.Trim(span, "0") != ""
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
