// Package subscription is the one place that knows which events an endpoint
// gets: by the type (events of an endpoint) and by the event's data (filter).
package subscription

import (
	"slices"
	"strings"

	"github.com/cardwire/cardwire/events"
)

// Every is the pattern of all types.
const Every = "*"

// A pattern is an exact type; "card.*", which stands for every type that begins
// with "card." (card.viewed, card.link.clicked, not card itself); or [Every].
// Every leaves out the operational events: who wants to know what becomes of his
// endpoints asks for that by name or by prefix. No pattern stands for the events of tests.

// WantsType says whether a list of patterns asks for a type.
func WantsType(patterns []string, eventType string) bool {
	if eventType == events.Test {
		return false
	}
	return slices.Contains(patterns, eventType) || matchesWildcard(patterns, eventType)
}

func matchesWildcard(patterns []string, eventType string) bool {
	for _, p := range patterns {
		if strings.HasSuffix(p, Every) && matches(p, eventType) {
			return true
		}
	}
	return false
}

// matches is for patterns with a wildcard.
func matches(pattern, eventType string) bool {
	if pattern == Every {
		return !events.Operational(eventType)
	}
	prefix, ok := strings.CutSuffix(pattern, Every)
	return ok && strings.HasSuffix(prefix, ".") && len(eventType) > len(prefix) && strings.HasPrefix(eventType, prefix)
}

// Wildcard says whether a text is a pattern with a wildcard: "*", or one to
// four words and ".*".
func Wildcard(pattern string) bool {
	if pattern == Every {
		return true
	}
	prefix, ok := strings.CutSuffix(pattern, "."+Every)
	return ok && events.ValidateType(prefix) == nil && events.ValidateType(prefix+".x") == nil
}
