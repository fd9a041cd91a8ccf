package endpoints

import (
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// useOurErrors makes huma answer with a Problem, and take the names of JSON
// members as they are spelled. Both are package-level variables of huma that
// requests read, so they are set once per process, and New calls this before it
// registers a route: whatever serves a request was made after it. Whoever else
// in this process uses huma gets the same errors.
var useOurErrors = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		if status == http.StatusUnprocessableEntity { // what huma says to invalid input
			status = http.StatusBadRequest
		}
		if status >= http.StatusInternalServerError {
			message, errs = "something went wrong on our side", nil
		}
		return newProblem(status, sentence(message, errs))
	}
})

// Bounds of a sentence about invalid input: it may repeat the names that the
// caller wrote.
const (
	maxFaults     = 3
	maxFieldRunes = 64
)

// sentence says what is wrong in a request, in our words: the first few faults,
// or message if there are none.
func sentence(message string, errs []error) string {
	var parts []string
	for _, err := range errs[:min(len(errs), maxFaults)] {
		var detail *huma.ErrorDetail
		if errors.As(err, &detail) {
			parts = append(parts, fault(detail))
		}
	}
	if len(parts) == 0 {
		return message
	}
	return strings.Join(parts, "; ")
}

// fault is one violation of a schema as "field: rule".
func fault(d *huma.ErrorDetail) string {
	field := d.Location
	for _, place := range []string{"body.", "query.", "path."} {
		field = strings.TrimPrefix(field, place)
	}
	if name, ok := strings.CutPrefix(d.Message, "expected required property "); ok {
		return strings.TrimSuffix(name, " to be present") + ": is required"
	}
	if runes := []rune(field); len(runes) > maxFieldRunes {
		field = string(runes[:maxFieldRunes]) + "…"
	}
	return field + ": " + rule(d.Message)
}

// rules maps what huma says about a value to how we put it. Where the text ends
// with a space, the rest is what the schema demands.
var rules = []struct{ huma, ours, unit string }{
	{"unexpected property", "is not known here", ""},
	{"unknown query parameter", "is not known here", ""},
	{"expected number >= ", "must be at least ", ""},
	{"expected number <= ", "must be at most ", ""},
	{"expected array length >= ", "must have at least ", " entries"},
	{"expected array length <= ", "must have at most ", " entries"},
	{"expected length >= ", "must have at least ", " characters"},
	{"expected length <= ", "must have at most ", " characters"},
	{"expected value to be one of ", "must be one of ", ""},
	{"expected object with at least 1 properties", "must have at least 1 member", ""},
	{"expected string", "must be a string", ""},
	{"expected array", "must be an array", ""},
	{"expected object", "must be an object", ""},
	{"expected boolean", "must be true or false", ""},
	{"expected string to be RFC 3339 date-time", "must be a time as in RFC 3339, such as 2026-08-02T17:45:10Z", ""},
	{"expected integer", "must be a whole number", ""},
	{"invalid integer", "must be a whole number", ""},
	{"invalid value: ", "", ""}, // what UnmarshalText of ours says
}

var singular = map[string]string{" entries": " entry", " characters": " character"}

// rule is our wording. Whatever huma says beyond the table may quote the value,
// and is not repeated.
func rule(message string) string {
	for _, r := range rules {
		rest, ok := strings.CutPrefix(message, r.huma)
		if ok && (rest == "" || strings.HasSuffix(r.huma, " ")) {
			if rest == "1" {
				return r.ours + rest + singular[r.unit]
			}
			return r.ours + rest + r.unit
		}
	}
	return "is not valid"
}
