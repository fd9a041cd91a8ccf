package publish

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/eventtypes"
)

// An item is one event of a request: what was said of it, what was made of it,
// and what became of it.
type item struct {
	index int
	given string    // its id, as it was written; empty if none was
	id    uuid.UUID // that id, if it is one of ours
	name  []byte    // SHA-256 of what names the event instead of an id; nil if nothing does
	user  uuid.UUID
	typ   string
	at    time.Time // zero if no time was given
	data  json.RawMessage
	trace string

	event    events.Event
	repeated bool
	fault    *fault // why it was not accepted
}

// A fault is why an event, or a request as a whole, is not accepted. Its text is for the caller.
type fault struct {
	status               int
	field, pointer, rule string
}

func (f *fault) Error() string {
	switch {
	case f.pointer != "":
		return f.field + " at " + f.pointer + ": " + f.rule
	case f.field != "":
		return f.field + ": " + f.rule
	}
	return f.rule
}

func refuse(field, rule string) *fault {
	return &fault{status: http.StatusBadRequest, field: field, rule: rule}
}

func (it *item) status() int {
	if it.fault != nil {
		return it.fault.status
	}
	return http.StatusAccepted
}

// plainEvent reads an event as we document it.
func plainEvent(raw []byte) *item {
	it := &item{}
	all, err := members(raw)
	if err != nil {
		errors.As(err, &it.fault)
		return it
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch value := all[name]; name {
		case "id":
			it.fault = readID(it, "id", value)
		case "userId":
			it.fault = readUser(it, "userId", value)
		case "type":
			it.typ, it.fault = readText("type", value)
		case "timestamp":
			it.fault = readTime(it, "timestamp", value)
		case "data":
			it.data = value
		default:
			it.fault = refuse(quoted(name), "is not known here: an event has id, userId, type, timestamp and data")
		}
		if it.fault != nil {
			return it
		}
	}
	for _, name := range []string{"userId", "type", "data"} {
		if _, there := all[name]; !there {
			it.fault = refuse(name, "is required")
			return it
		}
	}
	return it
}

func readText(field string, value json.RawMessage) (s string, f *fault) {
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return "", refuse(field, "must be a string")
	}
	return s, nil
}

func readID(it *item, field string, value json.RawMessage) (f *fault) {
	if it.given, f = readText(field, value); f != nil {
		return f
	}
	id, err := uuid.Parse(it.given)
	if err != nil || len(it.given) != 36 || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
		it.given = ""
		return refuse(field, "must be a UUIDv7 of 36 characters; for names of your own there is the header "+headerKey)
	}
	it.id, it.given = id, id.String()
	return nil
}

func readUser(it *item, field string, value json.RawMessage) *fault {
	s, f := readText(field, value)
	if f != nil {
		return f
	}
	return it.setUser(field, s)
}

func (it *item) setUser(field, s string) *fault {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 || id == uuid.Nil {
		return refuse(field, "must be the UUID of the user whose endpoints get the event, of 36 characters")
	}
	it.user = id
	return nil
}

func readTime(it *item, field string, value json.RawMessage) *fault {
	s, f := readText(field, value)
	if f != nil {
		return f
	}
	return it.setTime(field, s)
}

func (it *item) setTime(field, s string) *fault {
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return refuse(field, "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)")
	}
	it.at = at
	return nil
}

// check makes the event, under an id that may be replaced, and says what keeps it from
// being accepted.
func (a *API) check(it *item) {
	if it.fault != nil {
		return
	}
	at := it.at
	if at.IsZero() {
		at = a.now()
	}
	id := it.id
	switch {
	case it.name != nil:
		id = idOf(at, it.name)
	case id == uuid.Nil:
		fresh, err := uuid.NewRandom()
		if err != nil {
			it.fault = notAccepted("no id could be made")
			return
		}
		id = idOf(at, fresh[:])
	}
	if it.build(id); it.fault != nil {
		return
	}
	if !a.keeper.Covers(id) {
		field := "id"
		if it.id == uuid.Nil {
			field = "timestamp"
		}
		it.fault = refuse(field, "its time, "+events.IDTime(id).Format(time.RFC3339)+", must lie within the retention time and not in the future")
		return
	}
	it.checkType(a.catalog, a.cfg.AcceptUnknown())
}

// build makes the event under an id. Without a time of its own it has that of its
// id, so that a repeat has the same body.
func (it *item) build(id uuid.UUID) {
	at := it.at
	if at.IsZero() {
		at = events.IDTime(id)
	}
	e, err := events.New(it.user, it.typ, it.data, events.WithID(id), events.WithTime(at), events.WithTrace(it.trace))
	var broken *events.InvalidError
	switch {
	case errors.As(err, &broken):
		field, ok := map[string]string{"user id": "userId", "body": "event", "body.data": "data"}[broken.Field]
		if !ok {
			field = broken.Field
		}
		it.fault = refuse(field, broken.Rule)
		if errors.Is(err, events.ErrTooLarge) {
			it.fault.status = http.StatusRequestEntityTooLarge
		}
	case err != nil:
		it.fault = refuse("event", "is not valid")
	default:
		it.event = e
	}
}

// idOf is the UUIDv7 of a time, with the first bits of some bytes instead of random ones.
func idOf(at time.Time, bits []byte) (id uuid.UUID) {
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	copy(id[6:], bits)
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// checkType holds the event to its declared type. What Cardwire says itself nobody else may.
func (it *item) checkType(catalog *eventtypes.Catalog, acceptUnknown bool) {
	if it.typ == events.Test || events.Operational(it.typ) {
		it.fault = refuse("type", "is one that only Cardwire publishes")
		return
	}
	err := catalog.Check(it.typ, it.data, acceptUnknown)
	var broken *eventtypes.BrokenError
	switch {
	case err == nil:
	case errors.As(err, &broken):
		it.fault = &fault{status: http.StatusBadRequest, field: "data", pointer: "/data" + broken.Pointer, rule: broken.Rule}
	case errors.Is(err, eventtypes.ErrUnknown):
		it.fault = refuse("type", "is not declared: GET /api/event-types lists those that are")
	default:
		it.fault = refuse("data", "must be a JSON object")
	}
}
