package events

import (
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"
)

// ErrInvalid is what every [InvalidError] is: the event breaks a rule, and
// publishing it again will fail again.
var ErrInvalid = errors.New("invalid event")

// ErrTooLarge is an [InvalidError] whose body exceeds MaxBody. It is ErrInvalid as well.
var ErrTooLarge = errors.New("event too large")

// An InvalidError names the field that is wrong and the rule that it breaks.
type InvalidError struct {
	Field string // "type", "body", "subject", …
	Rule  string // what the field must be

	tooLarge bool
}

func (e *InvalidError) Error() string { return "invalid event: " + e.Field + ": " + e.Rule }

// Is makes errors.Is(err, ErrInvalid) true, and errors.Is(err, ErrTooLarge) where it applies.
func (e *InvalidError) Is(target error) bool {
	return target == ErrInvalid || e.tooLarge && target == ErrTooLarge
}

func invalid(field, rule string) error { return &InvalidError{Field: field, Rule: rule} }

// Validate checks the event against every rule, the body included. A zero Time
// stands for whatever the body says. The error is an [*InvalidError].
func (e Event) Validate() error {
	at, err := e.check()
	if err != nil {
		return err
	}
	if !e.Time.IsZero() && !at.Equal(e.Time) {
		return invalid("body.timestamp", "must be the event's time "+e.Time.Format(time.RFC3339Nano))
	}
	return nil
}

// check is Validate but for Time, which it returns from the body.
func (e Event) check() (time.Time, error) {
	if e.ID.Version() != 7 || e.ID.Variant() != uuid.RFC4122 {
		return time.Time{}, invalid("id", "must be a UUIDv7")
	}
	if e.UserID == uuid.Nil {
		return time.Time{}, invalid("user id", "must not be the nil UUID")
	}
	if err := ValidateType(e.Type); err != nil {
		return time.Time{}, err
	}
	if err := checkAttributes(e.Attributes); err != nil {
		return time.Time{}, err
	}
	return checkBody(e.Type, e.Body)
}

// ValidateType checks an event type: one to five words of a-z, 0-9 and _,
// joined by dots, at most MaxType bytes. The words become tokens of the
// subject. The error is an [*InvalidError].
func ValidateType(eventType string) error {
	const rule = "must be one to five words of a-z, 0-9 and _, joined by dots, such as card.viewed"
	if len(eventType) > MaxType {
		return invalid("type", "must be at most "+strconv.Itoa(MaxType)+" bytes")
	}
	words, inWord := 0, false
	for i := range len(eventType) {
		switch c := eventType[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_':
			if !inWord {
				words, inWord = words+1, true
			}
		case c == '.' && inWord:
			inWord = false
		default:
			return invalid("type", rule)
		}
	}
	if words == 0 || words > 5 || !inWord {
		return invalid("type", rule)
	}
	return nil
}

// checkAttributes keeps attributes fit for a NATS header, which is lines of text.
func checkAttributes(attrs map[string]string) error {
	if len(attrs) > MaxAttributes {
		return invalid("attributes", "must be at most "+strconv.Itoa(MaxAttributes)+" entries")
	}
	for k, v := range attrs {
		if !attributeName(k) {
			return invalid("attributes", "names must be 1 to 32 of a-z, 0-9 and -")
		}
		if len(v) > MaxAttribute {
			return invalid("attributes."+k, "must be at most "+strconv.Itoa(MaxAttribute)+" bytes")
		}
		for _, r := range v {
			if r < ' ' || r == 0x7f || r == utf8.RuneError {
				return invalid("attributes."+k, "must be UTF-8 text without control characters")
			}
		}
	}
	return nil
}

func attributeName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

// checkBody checks the JSON of a body and returns its timestamp.
func checkBody(eventType string, body []byte) (time.Time, error) {
	if len(body) > MaxBody {
		rule := fmt.Sprintf("must be at most %d bytes, not %d", MaxBody, len(body))
		return time.Time{}, &InvalidError{Field: "body", Rule: rule, tooLarge: true}
	}
	if depth(body) > MaxDepth {
		return time.Time{}, invalid("body", "must be nested at most "+strconv.Itoa(MaxDepth)+" deep")
	}
	if !utf8.Valid(body) {
		return time.Time{}, invalid("body", "must be UTF-8")
	}
	object := gjson.ParseBytes(body)
	if !object.IsObject() || !gjson.ValidBytes(body) {
		return time.Time{}, invalid("body", "must be a JSON object with type, timestamp and data")
	}
	// Of a key that is there twice the last counts, as for most who read JSON.
	var typ, timestamp, data gjson.Result
	object.ForEach(func(key, value gjson.Result) bool {
		switch key.String() {
		case "type":
			typ = value
		case "timestamp":
			timestamp = value
		case "data":
			data = value
		}
		return true
	})
	if typ.Type != gjson.String || typ.Str != eventType {
		return time.Time{}, invalid("body.type", "must be the event's type, "+eventType)
	}
	at, err := time.Parse(time.RFC3339Nano, timestamp.Str)
	if err != nil {
		return time.Time{}, invalid("body.timestamp", "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)")
	}
	if !data.IsObject() {
		return time.Time{}, invalid("body.data", "must be a JSON object")
	}
	return at.UTC(), nil
}

// depth is how deep the brackets of a JSON text nest, those in strings aside.
// It need not be right for what is no JSON.
func depth(body []byte) int {
	d, deepest, inString := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			d++
			deepest = max(deepest, d)
		case c == '}' || c == ']':
			d--
		}
	}
	return deepest
}
