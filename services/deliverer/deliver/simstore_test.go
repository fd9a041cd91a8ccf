package deliver

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// parkedUntil is when what waits for its endpoint would be due (deliver.sql).
var parkedUntil = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// A simStore is deliveries and attempts in memory, and what the statements of
// deliver.sql and sweep.sql do to them, called by their names. TestTheModelIsPostgreSQL
// holds it to the real ones.
type simStore struct {
	turn      chan struct{} // one statement or transaction at a time; a channel, as synctest waits for those
	rows      map[uuid.UUID]*simDelivery
	notes     map[uuid.UUID]time.Time // by endpoint with parked deliveries: when the next may go
	url       string
	secret    func(endpoint uuid.UUID) []byte
	sabotaged sabotage
}

type simDelivery struct {
	id, event, endpoint uuid.UUID
	status, reason      string
	attempts, failures  int32
	next, leased, swept time.Time // zero is null
	waitsFor            string
	log                 []simAttempt
	expired             int // leases of it that ran out
}

type simAttempt struct {
	n       int32
	outcome string // empty: in flight
}

func newSimStore() *simStore {
	return &simStore{
		turn: make(chan struct{}, 1), rows: make(map[uuid.UUID]*simDelivery), notes: make(map[uuid.UUID]time.Time),
		secret: func(uuid.UUID) []byte { return nil },
	}
}

func (s *simStore) add(id, event, endpoint uuid.UUID, now time.Time) *simDelivery {
	d := &simDelivery{id: id, event: event, endpoint: endpoint, status: "pending", next: now}
	s.rows[id] = d
	return d
}

// copied is the rows as they are, for a transaction that may be rolled back.
func (s *simStore) copied() map[uuid.UUID]*simDelivery {
	rows := make(map[uuid.UUID]*simDelivery, len(s.rows))
	for id, d := range s.rows {
		c := *d
		c.log = slices.Clone(d.log)
		rows[id] = &c
	}
	return rows
}

// oldest lists what is picked in the order of next_attempt_at, up to a number.
func (s *simStore) oldest(most int32, pick func(*simDelivery) bool) (list []*simDelivery) {
	for _, d := range s.rows {
		if pick(d) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *simDelivery) int {
		return cmp.Or(a.next.Compare(b.next), bytes.Compare(a.id[:], b.id[:]))
	})
	return list[:min(len(list), int(most))]
}

func (d *simDelivery) interrupt() {
	for i := range d.log {
		if d.log[i].outcome == "" {
			d.log[i].outcome = "interrupted"
		}
	}
}

func (d *simDelivery) free(now time.Time) bool { return d.leased.IsZero() || !d.leased.After(now) }

func (d *simDelivery) names() []any { return []any{d.id, d.event, d.endpoint} }

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

// run runs a statement with sqlc's arguments, at a time.
func (s *simStore) run(sql string, args []any, now time.Time) (rows [][]any) {
	name, _, _ := strings.Cut(strings.TrimPrefix(sql, "-- name: "), " ")
	switch name {
	case "ClaimDeliveries":
		return s.claim(args[0].(int32), args[1].([]uuid.UUID), seconds(args[4].(float64)), seconds(args[5].(float64)), now)
	case "EventBodies":
		for _, id := range args[0].([]uuid.UUID) {
			rows = append(rows, []any{id, []byte("{}")})
		}
	case "SettleAttempts":
		return s.settle(args, now)
	case "UnclaimDeliveries":
		s.unclaim(args[0].([]uuid.UUID), args[3].([]int32))
	case "ParkDeliveries":
		s.park(args, now)
	case "ReleaseDeliveries":
		return s.release(args[0].([]uuid.UUID), args[1].([]int32), now)
	case "ClearWaiting":
		for _, id := range args[0].([]uuid.UUID) {
			if len(s.parked(id)) == 0 {
				delete(s.notes, id)
			}
		}
	case "ReadyEndpoints":
		for id, until := range s.notes {
			if !until.After(now) {
				rows = append(rows, []any{id})
			}
		}
	case "ParkedEndpoints":
		for _, id := range simEndpoints {
			if len(s.parked(id)) > 0 {
				rows = append(rows, []any{id})
			}
		}
	case "TakeExpiredLeases":
		return s.takeExpired(args[0].(int32), now)
	case "TakeDueDeliveries":
		before := args[0].(time.Time)
		for _, d := range s.oldest(args[1].(int32), func(d *simDelivery) bool {
			return d.status == "pending" && d.next.Before(before) && d.free(now) && (d.swept.IsZero() || d.swept.Before(before)) && d.waitsFor == ""
		}) {
			d.swept = now
			rows = append(rows, d.names())
		}
	case "TakeTimedDeliveries":
		for _, d := range s.oldest(args[0].(int32), func(d *simDelivery) bool { return d.waitsFor != "" && !d.next.After(now) }) {
			d.waitsFor, d.swept = "", now
			rows = append(rows, d.names())
		}
	case "Now":
		return [][]any{{now}}
	case "NoteFailures", "SaveCircuits", "OpenCircuits", "EndingEndpoints", "InsertEvent": // nothing that the invariants are about
	default:
		panic("the simulator does not know the statement " + name)
	}
	return rows
}

func (s *simStore) claim(most int32, ids []uuid.UUID, early, lease time.Duration, now time.Time) (rows [][]any) {
	for _, id := range ids {
		d := s.rows[id]
		claimable := d != nil && !d.next.IsZero() && !d.next.After(now.Add(early)) && d.free(now)
		if !claimable && (d == nil || s.sabotaged != claimSkipped) {
			continue
		}
		expired := !d.leased.IsZero()
		if expired {
			d.interrupt()
			d.expired++
		}
		if d.attempts-d.failures >= most {
			d.status, d.reason, d.next, d.leased, d.waitsFor = "failed", "interrupted", time.Time{}, time.Time{}, ""
			continue
		}
		d.attempts++
		d.leased = now.Add(lease)
		if s.sabotaged == noLease {
			d.leased = now
		}
		d.log = append(d.log, simAttempt{n: d.attempts})
		rows = append(rows, []any{
			d.id, d.event, d.endpoint, "card.viewed", d.attempts, d.failures, false, s.url,
			uuid.UUID{1},
			int32(0), int32(0), []int32(nil),
			[][]byte{s.secret(d.endpoint)},
			[][]byte{nil},
		})
	}
	return rows
}

func (s *simStore) settle(args []any, now time.Time) (waiting [][]any) {
	ids, ns, outcomes := args[0].([]uuid.UUID), args[1].([]int32), args[2].([]string)
	waits, waitsFor, reasons, failures := args[10].([]float64), args[11].([]string), args[12].([]string), args[13].([]int32)
	for i, id := range ids {
		d := s.rows[id]
		if d == nil || s.sabotaged == settleLost {
			continue
		}
		for j := range d.log {
			if a := &d.log[j]; a.n == ns[i] && (a.outcome == "" || a.outcome == "interrupted") {
				a.outcome = outcomes[i]
			}
		}
		success := outcomes[i] == "success"
		if !(d.status == "pending" && d.attempts == ns[i] || d.status != "success" && success) {
			continue
		}
		d.failures = max(d.failures, failures[i])
		if d.attempts == ns[i] || success {
			d.leased = time.Time{}
		}
		if d.attempts > ns[i] {
			d.interrupt()
		}
		switch {
		case success:
			d.status, d.reason, d.next, d.waitsFor = "success", "", time.Time{}, ""
		case reasons[i] != "":
			d.status, d.reason, d.next, d.waitsFor = "failed", reasons[i], time.Time{}, ""
		default:
			d.status, d.reason, d.next, d.waitsFor = "pending", "", now.Add(seconds(waits[i])), waitsFor[i]
			waiting = append(waiting, []any{d.id, d.next})
		}
	}
	return waiting
}

func (s *simStore) unclaim(ids []uuid.UUID, ns []int32) {
	for i, id := range ids {
		d := s.rows[id]
		if d == nil || d.attempts != ns[i] || d.next.IsZero() || d.leased.IsZero() {
			continue
		}
		d.attempts--
		d.leased = time.Time{}
		d.log = slices.DeleteFunc(d.log, func(a simAttempt) bool { return a.n == ns[i] && a.outcome == "" })
	}
}

func (s *simStore) park(args []any, now time.Time) {
	endpoints, waits := args[0].([]uuid.UUID), args[2].([]float64)
	ids, early, reasons := args[3].([]uuid.UUID), seconds(args[6].(float64)), args[7].([]string)
	parked := make(map[uuid.UUID]bool)
	for i, id := range ids {
		d := s.rows[id]
		if d == nil || d.next.IsZero() || d.next.After(now.Add(early)) || !d.leased.IsZero() {
			continue
		}
		d.waitsFor, d.next, d.leased = reasons[i], parkedUntil, time.Time{}
		parked[d.endpoint] = true
	}
	for i, id := range endpoints {
		if parked[id] {
			s.notes[id] = now.Add(seconds(waits[i]))
		}
	}
}

// parked lists the parked deliveries of an endpoint, oldest id first.
func (s *simStore) parked(endpoint uuid.UUID) (list []*simDelivery) {
	for _, d := range s.rows {
		if d.endpoint == endpoint && d.waitsFor != "" && d.next.Equal(parkedUntil) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *simDelivery) int { return bytes.Compare(a.id[:], b.id[:]) })
	return list
}

func (s *simStore) release(endpoints []uuid.UUID, limits []int32, now time.Time) (rows [][]any) {
	for i, id := range endpoints {
		list := s.parked(id)
		for _, d := range list[:min(len(list), int(limits[i]))] {
			d.waitsFor, d.next, d.swept = "", now, now
			rows = append(rows, d.names())
		}
	}
	return rows
}

func (s *simStore) takeExpired(most int32, now time.Time) (rows [][]any) {
	for _, d := range s.oldest(most, func(d *simDelivery) bool {
		return d.status == "pending" && !d.next.After(now) && !d.leased.IsZero() && !d.leased.After(now)
	}) {
		d.leased, d.swept = time.Time{}, now
		d.interrupt()
		d.expired++
		rows = append(rows, d.names())
	}
	return rows
}

// simRows gives sqlc's code what a statement returned.
type simRows struct {
	pgx.Rows
	rows [][]any
	at   int
	err  error
}

func (r *simRows) Next() bool { r.at++; return r.at <= len(r.rows) }
func (r *simRows) Close()     {}
func (r *simRows) Err() error { return r.err }

func (r *simRows) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	row := r.rows[r.at-1]
	if len(row) != len(dest) {
		return fmt.Errorf("%d columns for %d places", len(row), len(dest))
	}
	for i, v := range row {
		reflect.ValueOf(dest[i]).Elem().Set(reflect.ValueOf(v))
	}
	return nil
}

// plain is the store without faults, as a DBTX.
type plain struct{ *simStore }

func (p plain) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	p.run(sql, args, time.Now())
	return pgconn.CommandTag{}, nil
}

func (p plain) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	return &simRows{rows: p.run(sql, args, time.Now())}, nil
}

func (p plain) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	return &simRows{rows: p.run(sql, args, time.Now()), at: 1}
}
