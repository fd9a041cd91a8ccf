package main

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
)

// A due is an accepted event that an endpoint is to get.
type due struct {
	event, endpoint uuid.UUID
	since           time.Time // accepted
}

// pairs are what each endpoint is to get of what was accepted. An event that was
// published again counts from its first acceptance.
func (r *run) pairs(published []check.Published) (all []due) {
	seen := make(map[uuid.UUID]bool)
	for _, p := range published {
		if p.State != check.Accepted || seen[p.EventID] {
			continue
		}
		seen[p.EventID] = true
		for _, t := range r.targets {
			if t.user == p.UserID && slices.Contains(t.types, p.Type) {
				all = append(all, due{p.EventID, t.id, p.At})
			}
		}
	}
	return all
}

// wellAgain is how long after a fault's end the last pair waited that had been
// accepted before it, or waited for longer than late. What never came waits for
// the checker to object.
func wellAgain(ended time.Time, pairs []due, received []check.Received) (took time.Duration) {
	first := make(map[[2]uuid.UUID]time.Time, len(received))
	for _, r := range received {
		key := [2]uuid.UUID{r.EventID, r.EndpointID}
		if at, ok := first[key]; r.Status/100 == 2 && (!ok || r.Answered.Before(at)) {
			first[key] = r.Answered
		}
	}
	for _, p := range pairs {
		at, ok := first[[2]uuid.UUID{p.event, p.endpoint}]
		if ok && (p.since.Before(ended) || at.Sub(p.since) > late) {
			took = max(took, at.Sub(ended))
		}
	}
	return took
}

// quantile is the least of times that a share q of them does not exceed; 0 of none.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	at := 0
	for at < len(sorted)-1 && float64(at+1) < q*float64(len(sorted)) {
		at++
	}
	return sorted[at]
}
