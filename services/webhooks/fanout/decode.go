package fanout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/eventtypes"
)

// What is kept of a dead event. Bodies fit as the stream bounds them.
const (
	maxDeadSubject = 512
	maxDeadHeader  = 4 << 10
)

// decode makes an item of a message. What is no event, or has an id whose time
// no partition covers, is dead, with the reason.
func decode(subject string, header nats.Header, body []byte, seq uint64, at time.Time, covers func(uuid.UUID) bool) *item {
	it := &item{seq: seq, at: at, subject: subject, header: headerLines(header), body: body}
	e, err := events.Decode(subject, header, body)
	switch {
	case err != nil:
		it.reason = err.Error()
	case !covers(e.ID):
		it.reason = fmt.Sprintf("invalid event: id: its time, %s, must lie within the retention time and not in the future",
			events.IDTime(e.ID).Format(time.RFC3339))
	default:
		it.event = e
	}
	return it
}

// checkType holds a live event to its declared type. What breaks that is dead; the
// reason quotes nothing of the data.
func (it *item) checkType(catalog *eventtypes.Catalog, acceptUnknown bool) {
	if it.reason != "" {
		return
	}
	var body struct {
		Data json.RawMessage `json:"data"`
	}
	err := json.Unmarshal(it.event.Body, &body)
	if err == nil {
		err = catalog.Check(it.event.Type, body.Data, acceptUnknown)
	}
	var broken *eventtypes.BrokenError
	switch {
	case errors.As(err, &broken):
		it.reason = "invalid event: " + broken.Quiet()
	case err != nil:
		it.reason = "invalid event: " + err.Error()
	}
}

// deadID derives the key of a dead event from the message: a repeat is the same row.
func (it *item) deadID() uuid.UUID {
	return uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%d %d %s", it.seq, it.at.UnixNano(), it.body))
}

// deadSubject is the subject as PostgreSQL takes text: bounded, UTF-8, no NUL.
func (it *item) deadSubject() string {
	s := it.subject[:min(len(it.subject), maxDeadSubject)]
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func headerLines(h nats.Header) []byte {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[k] {
			fmt.Fprintf(&b, "%s: %s\n", k, v)
		}
	}
	return b.Bytes()[:min(b.Len(), maxDeadHeader)]
}
