package endpoints

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/subscription"
)

const eventTypeRule = "must be an event type: one to five words of a-z, 0-9 and _, joined by dots; or such words and .* for all types that begin so; or * for all"

// maxListed is how many known types the error for an unknown one lists: more
// than that is no sentence.
const maxListed = 20

// checkEvents holds a list of event types to what its schema can't say: each is
// a type among known, or a pattern that one of these matches, and is there once.
// webhook.test can't be asked for.
func checkEvents(list, known []string) error {
	for i, t := range list {
		field := fmt.Sprintf("events[%d]", i)
		switch {
		case slices.Contains(list[:i], t):
			return invalid(field, fmt.Sprintf("%q is there twice", t))
		case subscription.Wildcard(t):
			if !slices.ContainsFunc(known, func(k string) bool { return subscription.WantsType([]string{t}, k) }) {
				return invalid(field, fmt.Sprintf("%q matches no known type; GET /api/event-types lists those", t))
			}
		case events.ValidateType(t) != nil:
			return invalid(field, eventTypeRule)
		case t == events.Test:
			return invalid(field, fmt.Sprintf("%q can't be asked for: it is sent by POST /api/webhooks/{id}/test alone", t))
		case !slices.Contains(known, t) && len(known) > maxListed:
			return invalid(field, fmt.Sprintf("%q is not known; GET /api/event-types lists those that are", t))
		case !slices.Contains(known, t):
			return invalid(field, fmt.Sprintf("%q is not known; known are %s", t, strings.Join(known, ", ")))
		}
	}
	return nil
}

// checkFilter reads a filter and returns it without spaces. It is nil for null
// and for none.
func checkFilter(f Filter) ([]byte, error) {
	if f.RawMessage == nil || string(f.RawMessage) == "null" {
		return nil, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, f.RawMessage); err != nil {
		return nil, invalid("filter", "must be JSON")
	}
	var broken *subscription.FilterError
	if _, err := subscription.ParseFilter(compact.Bytes()); errors.As(err, &broken) {
		return nil, invalid(broken.Field, broken.Rule)
	}
	return compact.Bytes(), nil
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

// Bounds of a retry schedule.
const (
	maxSteps     = 20                 // endpoints.retry_schedule
	minPause     = time.Second        // a receiver that failed needs a moment
	maxPause     = 24 * time.Hour     // so that what fails is tried daily at least
	maxPausesSum = 7 * 24 * time.Hour // well within the time that events are kept
)

// checkSchedule reads a retry schedule, in milliseconds. It is nil for nil, and
// not for an empty list: that is no retries at all.
func checkSchedule(list []string) ([]int32, error) {
	if list == nil {
		return nil, nil
	}
	if len(list) > maxSteps { // a PATCH's schema does not say so
		return nil, invalid("retrySchedule", fmt.Sprintf("must have at most %d entries", maxSteps))
	}
	schedule := make([]int32, len(list))
	var sum time.Duration
	for i, text := range list {
		d, err := time.ParseDuration(text)
		if err != nil || d < minPause || d > maxPause || d%time.Millisecond != 0 {
			return nil, invalid(fmt.Sprintf("retrySchedule[%d]", i), "must be a duration from 1s to 24h in whole milliseconds, such as 30s or 1h30m")
		}
		sum += d
		schedule[i] = int32(d.Milliseconds())
	}
	if sum > maxPausesSum {
		return nil, invalid("retrySchedule", "must be at most 168h in all")
	}
	return schedule, nil
}

// shownSchedule is the inverse of checkSchedule.
func shownSchedule(ms []int32) []string {
	if ms == nil {
		return nil
	}
	list := make([]string, len(ms))
	for i, n := range ms {
		list[i] = shownDuration(time.Duration(n) * time.Millisecond)
	}
	return list
}

// shownDuration writes a duration without the units that are zero: 5m, not 5m0s.
func shownDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Bounds of a secret of the caller's, in bytes (Standard Webhooks).
const (
	minSecret    = 24
	maxSecret    = 64
	secretPrefix = "whsec_"
)

// secretKey reads a secret of the caller's: the key is what stands in base64
// after whsec_.
func secretKey(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(key) < minSecret || len(key) > maxSecret || strings.ContainsAny(encoded, "\r\n") {
		return nil, invalid("secret", fmt.Sprintf("must be %s and the base64 of %d to %d bytes, with its padding", secretPrefix, minSecret, maxSecret))
	}
	return key, nil
}
