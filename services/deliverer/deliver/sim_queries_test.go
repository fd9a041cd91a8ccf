package deliver

import (
	"bytes"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Sabotages of a simStore.
const (
	sound            sabotage = ""
	claimsLeased     sabotage = "a claim takes what somebody else holds"
	claimsDone       sabotage = "a claim takes what is delivered"
	noLease          sabotage = "a claim writes no lease"
	losesResults     sabotage = "results are not written"
	forgetsFailures  sabotage = "failures are not counted"
	leavesOpen       sabotage = "an expired lease leaves its attempt open"
	noSweeper        sabotage = "there is no sweeper"
	ignoresNotBefore sabotage = "a claim takes what is not due"
)

// simQueries are the statements by their names in sql/queries, with their
// arguments in the order of the generated code.
var simQueries = map[string]func(*simStore, []any) [][]any{
	"ClaimDeliveries": func(s *simStore, a []any) [][]any {
		return s.claim(int(a[2].(int32)), a[3].([]uuid.UUID), seconds(a[4]), seconds(a[6]), a[5].(bool), a[7].(uuid.UUID))
	},
	"UnclaimDeliveries": func(s *simStore, a []any) [][]any { return s.unclaim(a[0].([]uuid.UUID), a[3].([]uuid.UUID)) },
	"ParkDeliveries": func(s *simStore, a []any) [][]any {
		return s.park(a[0].([]uuid.UUID), a[1].([]string), a[2].([]float64), a[3].([]uuid.UUID), seconds(a[6]), a[7].([]string))
	},
	"LockParked": func(s *simStore, a []any) [][]any {
		return s.lockParked(a[0].([]uuid.UUID), a[1].([]uuid.UUID), a[2].([]int32))
	},
	"ClearWaiting": func(s *simStore, a []any) [][]any {
		for _, id := range a[0].([]uuid.UUID) {
			if e := s.endpoint(id); e != nil && !s.hasParked(id) {
				e.waitsFor, e.waitUntil = "", time.Time{}
			}
		}
		return nil
	},
	"LockStates": func(s *simStore, a []any) (rows [][]any) {
		for _, id := range a[0].([]uuid.UUID) {
			rows = append(rows, []any{id})
		}
		return rows
	},
	"LockWaiting": func(*simStore, []any) [][]any { return nil }, // one statement at a time is in the store
	"StillWaiting": func(s *simStore, a []any) (rows [][]any) {
		for _, id := range a[0].([]uuid.UUID) {
			if e := s.endpoint(id); e != nil && e.waitsFor != "" {
				rows = append(rows, []any{id})
			}
		}
		return rows
	},
	"ClosedCircuits": func(s *simStore, a []any) (rows [][]any) {
		for _, id := range a[0].([]uuid.UUID) {
			if e := s.endpoint(id); e != nil && e.circuit == "closed" {
				rows = append(rows, []any{id})
			}
		}
		return rows
	},
	"ReadyEndpoints": func(s *simStore, _ []any) (rows [][]any) {
		for _, e := range s.endpoints {
			if e.waitsFor != "" && !e.waitUntil.After(simNow()) {
				rows = append(rows, []any{e.id})
			}
		}
		return rows
	},
	"ParkedEndpoints": func(s *simStore, _ []any) (rows [][]any) {
		for _, e := range s.endpoints {
			if s.hasParked(e.id) {
				rows = append(rows, []any{e.id})
			}
		}
		return rows
	},
	"SettleAttempts": func(s *simStore, a []any) [][]any {
		return s.settle(a[0].([]uuid.UUID), a[1].([]int32), a[2].([]string), a[10].([]float64), a[11].([]string), a[12].([]string), a[13].([]int32), a[22].([]uuid.UUID))
	},
	"CloseOvertaken": func(s *simStore, a []any) [][]any {
		for _, id := range a[0].([]uuid.UUID) {
			if d := s.delivery(id); d != nil && d.status != "pending" {
				s.close(id)
			}
		}
		return nil
	},
	"NoteFailures": func(s *simStore, a []any) [][]any {
		for i, id := range a[0].([]uuid.UUID) {
			if e := s.endpoint(id); e != nil {
				e.failures += int(a[1].([]int32)[i])
				if e.failingSince.IsZero() {
					e.failingSince = simNow()
				}
			}
		}
		return nil
	},
	"DisableEndpoints": func(s *simStore, a []any) [][]any {
		return s.disable(a[0].(string), a[1].([]uuid.UUID), int(a[2].(int32)), seconds(a[3]))
	},
	"EndingEndpoints": func(s *simStore, _ []any) (rows [][]any) {
		for _, e := range s.endpoints {
			if e.ending && (!e.active || e.deleted) {
				rows = append(rows, []any{e.id, e.deleted})
			}
		}
		return rows
	},
	"EndDeliveries": func(s *simStore, a []any) [][]any {
		return s.end(a[0].(string), a[1].(uuid.UUID), a[2].(uuid.UUID), int(a[3].(int32)))
	},
	"Ended": func(s *simStore, a []any) [][]any {
		if e := s.endpoint(a[0].(uuid.UUID)); e != nil && e.ending {
			e.ending, e.waitsFor, e.waitUntil = false, "", time.Time{}
		}
		return nil
	},
	"SaveCircuits": func(s *simStore, a []any) [][]any {
		for i, id := range a[0].([]uuid.UUID) {
			if e := s.endpoint(id); e != nil {
				e.circuit, e.circuitAt = a[1].([]string)[i], simNow().Add(seconds(a[3].([]float64)[i]))
				if e.circuit == "closed" && e.waitsFor != "" && e.waitUntil.After(simNow()) {
					e.waitUntil = simNow()
				}
			}
		}
		return nil
	},
	"OpenCircuits": func(s *simStore, _ []any) (rows [][]any) {
		for _, e := range s.endpoints {
			if e.circuit == "open" {
				rows = append(rows, []any{e.id, "circuit_open", max(e.circuitAt.Sub(simNow()), 0).Seconds()})
			}
		}
		return rows
	},
	"TakeExpiredLeases":   func(s *simStore, a []any) [][]any { return s.takeExpired(int(a[0].(int32))) },
	"TakeDueDeliveries":   func(s *simStore, a []any) [][]any { return s.takeDue(a[0].(time.Time), int(a[1].(int32))) },
	"TakeTimedDeliveries": func(s *simStore, a []any) [][]any { return s.takeTimed(int(a[0].(int32))) },
	"Now":                 func(*simStore, []any) [][]any { return [][]any{{simNow()}} },
	"InsertEvent": func(s *simStore, a []any) [][]any {
		s.outbox[a[0].(uuid.UUID)] = true
		return nil
	},
}

func seconds(v any) time.Duration { return time.Duration(v.(float64) * float64(time.Second)) }

func (s *simStore) park(endpointIDs []uuid.UUID, endpointReasons []string, waits []float64, ids []uuid.UUID, early time.Duration, reasons []string) [][]any {
	now := simNow()
	parked := make(map[uuid.UUID]bool)
	for i, id := range ids {
		d := s.delivery(id)
		if d == nil || !d.due(now, early) || !d.leased.IsZero() {
			continue
		}
		d.waitsFor, d.next = reasons[i], parkedUntil
		parked[d.endpointID] = true
	}
	for i, id := range endpointIDs {
		if e := s.endpoint(id); e != nil && parked[id] {
			e.waitsFor, e.waitUntil = endpointReasons[i], now.Add(seconds(waits[i])).Truncate(time.Microsecond)
		}
	}
	return nil
}

func (d *simDelivery) parked() bool { return d.waitsFor != "" && d.next.Equal(parkedUntil) }

func (s *simStore) hasParked(endpointID uuid.UUID) bool {
	return slices.ContainsFunc(s.deliveries, func(d *simDelivery) bool { return d.endpointID == endpointID && d.parked() })
}

func (s *simStore) lockParked(endpointIDs, afters []uuid.UUID, limits []int32) (rows [][]any) {
	for i, id := range endpointIDs {
		left := int(limits[i])
		for _, d := range s.deliveries {
			if left > 0 && d.endpointID == id && bytes.Compare(d.id[:], afters[i][:]) > 0 && d.parked() {
				left--
				rows = append(rows, []any{d.id, id})
			}
		}
	}
	return rows
}

func (s *simStore) disable(reason string, ids []uuid.UUID, least int, after time.Duration) (rows [][]any) {
	for _, id := range ids {
		e := s.endpoint(id)
		if e == nil || !e.active || e.deleted ||
			reason == "failing" && (e.failures < least || e.failingSince.After(simNow().Add(-after))) {
			continue
		}
		e.active, e.ending = false, true
		rows = append(rows, []any{id, uuid.Max})
	}
	return rows
}

func (s *simStore) end(reason string, endpointID, after uuid.UUID, most int) (rows [][]any) {
	for _, d := range s.deliveries {
		if len(rows) < most && d.endpointID == endpointID && bytes.Compare(d.id[:], after[:]) > 0 && !d.next.IsZero() && d.leased.IsZero() {
			d.status, d.reason, d.next, d.waitsFor = "failed", reason, time.Time{}, ""
			rows = append(rows, []any{d.id})
		}
	}
	return rows
}
