package publish

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/webjson"
)

// Media types that are taken.
const (
	typeJSON    = "application/json"
	typeNDJSON  = "application/x-ndjson"
	typeCE      = "application/cloudevents+json"
	typeCEBatch = "application/cloudevents-batch+json"
)

const (
	headerKey = "Idempotency-Key"
	maxKey    = 255 // characters of it
	maxQuoted = 64  // characters of what a stranger wrote, in errors
)

// A request is what was read: its events, in order.
type request struct {
	items  []*item
	single bool // one event, not a batch of one
}

// read reads a request. If nothing of it can be taken it answers, and ok is false.
func (a *API) read(w http.ResponseWriter, r *http.Request, keyID uuid.UUID) (batch request, ok bool) {
	mediaType := typeJSON
	if header := r.Header.Get("Content-Type"); header != "" {
		var err error
		if mediaType, _, err = mime.ParseMediaType(header); err != nil {
			mediaType = ""
		}
	}
	binary := r.Header.Get("Ce-Specversion") != "" && mediaType == typeJSON
	switch mediaType {
	case typeJSON, typeNDJSON, typeCE, typeCEBatch:
	default:
		webjson.WriteError(w, http.StatusUnsupportedMediaType, "content-type: must be "+typeJSON+", "+typeNDJSON+", "+typeCE+" or "+typeCEBatch)
		return batch, false
	}
	body, ok := webjson.ReadBody(w, r, MaxBytes)
	if !ok {
		return batch, false
	}
	parse := plainEvent
	if mediaType == typeCE || mediaType == typeCEBatch {
		parse = cloudEvent
	}
	var err error
	switch {
	case binary:
		batch = request{[]*item{binaryEvent(r.Header, body)}, true}
	case mediaType == typeNDJSON:
		batch.items, err = lines(body)
	default:
		batch, err = readDocument(body, mediaType, parse)
	}
	if err == nil {
		err = setKey(r.Header, &batch, keyID)
	}
	var broken *fault
	if errors.As(err, &broken) {
		webjson.WriteError(w, broken.status, broken.Error())
		return batch, false
	}
	trace := r.Header.Get("Traceparent")
	for i, it := range batch.items {
		it.index = i
		if it.trace == "" {
			it.trace = trace
		}
	}
	return batch, true
}

// readDocument reads a body that is one JSON text: an event, or an array of them.
func readDocument(body []byte, mediaType string, parse func([]byte) *item) (batch request, err error) {
	trimmed := bytes.TrimSpace(body)
	if !utf8.Valid(trimmed) {
		return batch, refuse("body", "must be UTF-8")
	}
	if !bytes.HasPrefix(trimmed, []byte("[")) {
		if mediaType == typeCEBatch {
			return batch, refuse("body", "must be a JSON array of events")
		}
		return request{[]*item{parse(trimmed)}, true}, nil
	}
	if mediaType == typeCE {
		return batch, refuse("body", "must be one event; a batch is "+typeCEBatch)
	}
	list, err := entries(trimmed)
	if err != nil {
		return batch, err
	}
	for _, one := range list {
		batch.items = append(batch.items, parse(one))
	}
	return batch, nil
}

// entries reads the entries of a JSON array, and stops when they are too many:
// MaxBytes have room for millions of them.
func entries(text []byte) (list []json.RawMessage, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil {
		return nil, refuse("body", notJSON(err))
	}
	for d.More() {
		var one json.RawMessage
		if err := d.Decode(&one); err != nil {
			return nil, refuse("body", notJSON(err))
		}
		if list = append(list, one); len(list) > MaxEvents {
			return nil, checkCount(len(list))
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, refuse("body", notJSON(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse("body", "must be one JSON array, with nothing after it")
	}
	return list, checkCount(len(list))
}

// lines reads a body with an event in each line. A line that is none is that item's
// fault alone. Empty lines are no events.
func lines(body []byte) (items []*item, err error) {
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(items) <= MaxEvents { // the count goes on, for the error
			items = append(items, plainEvent(line))
		}
	}
	return items, checkCount(len(items))
}

func checkCount(n int) error {
	switch {
	case n == 0:
		return refuse("body", fmt.Sprintf("must have 1 to %d events", MaxEvents))
	case n > MaxEvents:
		return &fault{status: http.StatusRequestEntityTooLarge, field: "body", rule: fmt.Sprintf("must have at most %d events: send several requests", MaxEvents)}
	}
	return nil
}

// setKey gives the one event of a request the name that its Idempotency-Key is,
// of that API key.
func setKey(h http.Header, batch *request, keyID uuid.UUID) error {
	values := h.Values(headerKey)
	if len(values) == 0 {
		return nil
	}
	key := values[0]
	switch {
	case len(values) > 1:
		return refuse(headerKey, "must be there once")
	case len(key) < 1 || len(key) > maxKey:
		return refuse(headerKey, "must have 1 to "+strconv.Itoa(maxKey)+" characters")
	case !batch.single:
		return refuse(headerKey, "is for one event: give each event of a batch an id")
	case batch.items[0].given != "":
		return refuse(headerKey, "must not come with an id, which does the same: leave one of them out")
	}
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c > '~' {
			return refuse(headerKey, "must be printable ASCII without spaces")
		}
	}
	batch.items[0].setName("key", keyID.String(), key)
	return nil
}

// setName names the event by a hash of some parts.
func (it *item) setName(parts ...string) {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	it.name = h.Sum(nil)
}

// members reads a JSON object whose members are each there once. Names are told
// apart by case. The error is a *fault.
func members(raw []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	first, err := d.Token()
	if err != nil {
		return nil, refuse("event", notJSON(err))
	}
	if first != json.Delim('{') {
		return nil, refuse("event", "must be a JSON object")
	}
	all := make(map[string]json.RawMessage)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, refuse("event", notJSON(err))
		}
		name, _ := token.(string) // the decoder allows nothing else here
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, refuse("event", notJSON(err))
		}
		if _, there := all[name]; there {
			return nil, refuse(quoted(name), "is there twice")
		}
		all[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, refuse("event", notJSON(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse("event", "must be one JSON object, with nothing after it")
	}
	return all, nil
}

// notJSON says where the JSON ends to be such. The decoder's own words would quote it.
func notJSON(err error) string {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("must be JSON, which it is not near byte %d", syntax.Offset)
	}
	return "must be JSON, and ends too early"
}

// quoted is a name that a stranger wrote, bounded.
func quoted(s string) string {
	if runes := []rune(s); len(runes) > maxQuoted {
		return string(runes[:maxQuoted]) + "…"
	}
	return s
}
