package deliver

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
)

// due says that a delivery may be claimed at now: early, if it waits for a message.
func (d *simDelivery) due(now time.Time, early time.Duration) bool {
	if d.waitsFor != "" {
		early = 0
	}
	return !d.next.IsZero() && !d.next.After(now.Add(early))
}

// free says that nobody is at a delivery, as far as its lease tells.
func (d *simDelivery) free(now time.Time) bool { return d.leased.IsZero() || !d.leased.After(now) }

func (s *simStore) claim(most int, ids []uuid.UUID, early, lease time.Duration, parked bool, claimID uuid.UUID) (rows [][]any) {
	given := make(map[uuid.UUID]bool) // bodies, by event
	now := simNow()
	for _, id := range ids {
		d := s.delivery(id)
		if d == nil {
			continue
		}
		if s.broken == claimsDone && d.status == "success" {
			d.status, d.next = "pending", now
		}
		due := d.due(now, early) || parked && d.parked()
		if s.broken == ignoresNotBefore {
			due = !d.next.IsZero()
		}
		if !due || !d.free(now) && s.broken != claimsLeased {
			continue
		}
		e, reason := s.endpoint(d.endpointID), ""
		switch {
		case e == nil || e.deleted:
			reason = reasonDeleted
		case !e.active:
			reason = reasonDisabled
		case d.attempts-d.before-d.failures >= most:
			reason = "interrupted"
		}
		if !d.leased.IsZero() && s.broken != leavesOpen {
			s.close(id)
		}
		if reason != "" {
			d.status, d.reason, d.next, d.leased, d.claimID, d.waitsFor = "failed", reason, time.Time{}, time.Time{}, uuid.Nil, ""
			continue
		}
		d.attempts++
		if d.parked() {
			d.next, d.waitsFor = now, ""
		}
		d.claimID = claimID
		if s.broken != noLease {
			d.leased = now.Add(lease).Truncate(time.Microsecond)
		}
		s.attempts = append(s.attempts, &simAttempt{deliveryID: id, n: d.attempts})
		var body []byte
		if !given[d.eventID] {
			given[d.eventID], body = true, s.events[d.eventID]
		}
		rows = append(rows, []any{
			id, d.eventID, d.endpointID, "card.viewed", int32(d.attempts), int32(d.failures), !d.exhausted.IsZero(), (*uuid.UUID)(nil), "https://receiver.test/",
			uuid.Max, e.maxInFlight, e.rate, e.schedule,
			[][]byte{e.secret},
			[][]byte{{}},
			body,
		})
	}
	return rows
}

func (s *simStore) unclaim(ids, claimIDs []uuid.UUID) [][]any {
	for i, id := range ids {
		d := s.delivery(id)
		if d == nil || d.claimID != claimIDs[i] || d.next.IsZero() || d.leased.IsZero() {
			continue
		}
		n := d.attempts
		d.leased, d.claimID = time.Time{}, uuid.Nil
		d.attempts--
		s.attempts = slices.DeleteFunc(s.attempts, func(a *simAttempt) bool { return a.deliveryID == id && a.n == n && a.outcome == "" })
	}
	return nil
}

func (s *simStore) settle(ids []uuid.UUID, ns []int32, outcomes []string, waits []float64, waitsFor, reasons []string, failures []int32, answering []uuid.UUID) (rows [][]any) {
	if s.broken == losesResults {
		return nil
	}
	now := simNow()
	for i, id := range ids {
		for _, a := range s.attempts {
			if a.deliveryID == id && a.n == int(ns[i]) && (a.outcome == "" || a.outcome == "interrupted") {
				a.outcome = outcomes[i]
			}
		}
		d, success := s.delivery(id), outcomes[i] == "success"
		if d == nil || !(d.status == "pending" && d.attempts == int(ns[i]) || d.status != "success" && success) {
			continue
		}
		if s.broken != forgetsFailures {
			d.failures = max(d.failures, int(failures[i]))
		}
		if d.attempts == int(ns[i]) {
			d.leased, d.claimID = time.Time{}, uuid.Nil
		}
		switch {
		case success:
			d.status, d.reason, d.next, d.waitsFor, d.exhausted = "success", "", time.Time{}, "", time.Time{}
		case reasons[i] != "":
			d.status, d.reason, d.next, d.waitsFor = "failed", reasons[i], time.Time{}, ""
			if reasons[i] == reasonExhausted {
				d.exhausted = now
			}
		default:
			d.next, d.waitsFor = now.Add(seconds(waits[i])).Truncate(time.Microsecond), waitsFor[i]
			rows = append(rows, []any{id, d.next})
		}
	}
	for _, id := range answering {
		if e := s.endpoint(id); e != nil {
			e.failingSince, e.failures = time.Time{}, 0
		}
	}
	return rows
}

// taken lists deliveries in the order of their times, and changes each.
func (s *simStore) taken(most int, want func(*simDelivery) bool, change func(*simDelivery)) (rows [][]any) {
	var list []*simDelivery
	for _, d := range s.deliveries {
		if d.status == "pending" && want(d) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *simDelivery) int { return cmp.Or(a.next.Compare(b.next), bytes.Compare(a.id[:], b.id[:])) })
	for _, d := range list[:min(most, len(list))] {
		change(d)
		rows = append(rows, []any{d.id, d.eventID, d.endpointID})
	}
	return rows
}

func (s *simStore) takeExpired(most int) [][]any {
	now := simNow()
	return s.taken(most,
		func(d *simDelivery) bool { return !d.next.After(now) && !d.leased.IsZero() && !d.leased.After(now) },
		func(d *simDelivery) {
			d.leased, d.claimID, d.swept = time.Time{}, uuid.Nil, now
			if s.broken != leavesOpen {
				s.close(d.id)
			}
		})
}

func (s *simStore) takeDue(before time.Time, most int) [][]any {
	now := simNow()
	return s.taken(most,
		func(d *simDelivery) bool {
			return d.next.Before(before) && d.free(now) && d.swept.Before(before) && d.waitsFor == ""
		},
		func(d *simDelivery) { d.swept = now })
}

func (s *simStore) takeTimed(most int) [][]any {
	now := simNow()
	return s.taken(most,
		func(d *simDelivery) bool { return d.waitsFor != "" && !d.next.After(now) },
		func(d *simDelivery) { d.waitsFor, d.swept = "", now })
}
