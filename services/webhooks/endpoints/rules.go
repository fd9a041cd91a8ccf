package endpoints

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cardwire/cardwire/events"
)

const eventTypeRule = "must be an event type: one to five words of a-z, 0-9 and _, joined by dots"

// checkEvents holds a list of event types to what its schema can't say: each is
// a type, is among known, and is there once.
func checkEvents(list, known []string) error {
	for i, t := range list {
		field := fmt.Sprintf("events[%d]", i)
		switch {
		case events.ValidateType(t) != nil:
			return invalid(field, eventTypeRule)
		case !slices.Contains(known, t):
			return invalid(field, fmt.Sprintf("%q is not known; known are %s", t, strings.Join(known, ", ")))
		case slices.Contains(list[:i], t):
			return invalid(field, fmt.Sprintf("%q is there twice", t))
		}
	}
	return nil
}

// checkDescription keeps it one line.
func checkDescription(s string) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return invalid("description", "must be one line without control characters")
	}
	return nil
}

// parseOverlap reads the parameter of a rotation; empty means usual.
func parseOverlap(s string, usual time.Duration) (time.Duration, error) {
	if s == "" {
		return usual, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxOverlap {
		return 0, invalid("overlap", "must be a duration from 0s to 168h, such as 1h30m")
	}
	return d, nil
}

// invalidURL is what egress says about a URL: a sentence for the tenant already,
// with the field in front.
func invalidURL(err error) error {
	rule, _ := strings.CutPrefix(err.Error(), "url: ")
	return invalid("url", rule)
}
