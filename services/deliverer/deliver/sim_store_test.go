package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A simStore is the part of PostgreSQL that the deliverer and the sweeper use,
// in memory: the queries of sql/queries/deliver.sql and sweep.sql, by name, one
// statement or transaction at a time. TestTheSimulatedStoreDoesWhatPostgreSQLDoes
// holds it to the real ones. What it can't show is what PostgreSQL does with
// statements that run at once.
type simStore struct {
	turn chan struct{} // has one token; a mutex would keep synctest's clock from going on
	simState
	broken sabotage
	// interrupted counts, by delivery, attempts that were closed as cut off by us.
	interrupted map[uuid.UUID]int
}

// simState is the rows.
type simState struct {
	deliveries []*simDelivery // by id
	attempts   []*simAttempt
	endpoints  []*simEndpoint
	events     map[uuid.UUID][]byte
	outbox     map[uuid.UUID]bool
}

// Of the columns, a zero time or an empty text is null.
type simDelivery struct {
	id, eventID, endpointID        uuid.UUID
	status, reason, waitsFor       string
	attempts, before, failures     int
	next, leased, swept, exhausted time.Time
	claimID                        uuid.UUID
}

type simAttempt struct {
	deliveryID uuid.UUID
	n          int
	outcome    string
}

// A simEndpoint is a row of endpoints with that of endpoint_states.
type simEndpoint struct {
	id                   uuid.UUID
	active, deleted      bool
	schedule             []int32
	maxInFlight, rate    int32
	secret               []byte
	circuit, waitsFor    string
	circuitAt, waitUntil time.Time
	failingSince         time.Time
	failures             int
	ending               bool
}

// A sabotage is what is wrong with a simStore on purpose, or with what is around it.
type sabotage string

func newSimStore() *simStore {
	s := &simStore{
		turn:        make(chan struct{}, 1),
		interrupted: make(map[uuid.UUID]int),
		simState:    simState{events: make(map[uuid.UUID][]byte), outbox: make(map[uuid.UUID]bool)},
	}
	s.turn <- struct{}{}
	return s
}

// clone is a deep copy, for a transaction to be rolled back to.
func (s *simState) clone() simState {
	c := simState{events: s.events, outbox: make(map[uuid.UUID]bool, len(s.outbox))}
	for _, d := range s.deliveries {
		row := *d
		c.deliveries = append(c.deliveries, &row)
	}
	for _, a := range s.attempts {
		row := *a
		c.attempts = append(c.attempts, &row)
	}
	for _, e := range s.endpoints {
		row := *e
		c.endpoints = append(c.endpoints, &row)
	}
	for id := range s.outbox {
		c.outbox[id] = true
	}
	return c
}

func (s *simStore) delivery(id uuid.UUID) *simDelivery {
	i, ok := slices.BinarySearchFunc(s.deliveries, id, func(d *simDelivery, id uuid.UUID) int { return bytes.Compare(d.id[:], id[:]) })
	if !ok {
		return nil
	}
	return s.deliveries[i]
}

func (s *simStore) endpoint(id uuid.UUID) *simEndpoint {
	for _, e := range s.endpoints {
		if e.id == id {
			return e
		}
	}
	return nil
}

// close ends the open attempts of a delivery as interrupted.
func (s *simStore) close(id uuid.UUID) {
	for _, a := range s.attempts {
		if a.deliveryID == id && a.outcome == "" {
			a.outcome = "interrupted"
			s.interrupted[id]++
		}
	}
}

// simNow is PostgreSQL's clock, to a microsecond.
func simNow() time.Time { return time.Now().Truncate(time.Microsecond) }

// parkedUntil is the year 9999 of ParkDeliveries.
var parkedUntil = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// run runs a statement. Its caller has the turn.
func (s *simStore) run(sql string, args []any) ([][]any, error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(sql, "-- name: "), " ")
	query := simQueries[name]
	if query == nil {
		return nil, fmt.Errorf("the simulator has no query %q", name)
	}
	return query(s, args), nil
}

// A simConn is a database over a simStore, with the faults of one process.
type simConn struct {
	store *simStore
	// fault is asked before and after each statement and commit, and may wait.
	fault func(ctx context.Context, after bool) error
}

func (c *simConn) do(ctx context.Context, sql string, args []any) ([][]any, error) {
	if err := c.fault(ctx, false); err != nil {
		return nil, err
	}
	select {
	case <-c.store.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	rows, err := c.store.run(sql, args)
	c.store.turn <- struct{}{}
	if err == nil {
		err = c.fault(ctx, true) // it is stored all the same
	}
	return rows, err
}

func (c *simConn) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	_, err := c.do(ctx, sql, args)
	return pgconn.CommandTag{}, err
}

func (c *simConn) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := c.do(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	return &simRows{rows: rows}, nil
}

func (c *simConn) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := c.do(ctx, sql, args)
	return &simRows{rows: rows, err: err}
}

// Begin takes the turn until the transaction ends.
func (c *simConn) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := c.fault(ctx, false); err != nil {
		return nil, err
	}
	select {
	case <-c.store.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return &simTx{conn: c, before: c.store.clone()}, nil
}

// A simTx is what pgx.BeginFunc and the queries need of a pgx.Tx.
type simTx struct {
	pgx.Tx
	conn   *simConn
	before simState
	ended  bool
}

func (t *simTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := t.conn.fault(ctx, false); err != nil {
		return pgconn.CommandTag{}, err
	}
	_, err := t.conn.store.run(sql, args)
	return pgconn.CommandTag{}, err
}

func (t *simTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := t.conn.fault(ctx, false); err != nil {
		return nil, err
	}
	rows, err := t.conn.store.run(sql, args)
	if err != nil {
		return nil, err
	}
	return &simRows{rows: rows}, nil
}

func (t *simTx) Commit(ctx context.Context) error {
	if err := t.conn.fault(ctx, false); err != nil {
		_ = t.Rollback(ctx)
		return err
	}
	t.ended = true
	t.conn.store.turn <- struct{}{}
	return t.conn.fault(ctx, true) // committed all the same
}

func (t *simTx) Rollback(context.Context) error {
	if t.ended {
		return pgx.ErrTxClosed
	}
	t.ended = true
	t.conn.store.simState = t.before
	t.conn.store.turn <- struct{}{}
	return nil
}

// simRows is what sqlc's code needs of pgx.Rows and pgx.Row.
type simRows struct {
	pgx.Rows
	rows [][]any
	next int
	err  error
}

func (r *simRows) Close()     {}
func (r *simRows) Err() error { return r.err }

func (r *simRows) Next() bool {
	r.next++
	return r.next <= len(r.rows)
}

func (r *simRows) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	if len(r.rows) == 0 {
		return pgx.ErrNoRows
	}
	row := r.rows[max(r.next, 1)-1]
	if len(row) != len(dest) {
		return fmt.Errorf("scan: %d columns, want %d", len(row), len(dest))
	}
	for i, v := range row {
		ok := true
		switch d := dest[i].(type) {
		case *uuid.UUID:
			*d, ok = v.(uuid.UUID)
		case **uuid.UUID:
			*d, ok = v.(*uuid.UUID)
		case *string:
			*d, ok = v.(string)
		case *int32:
			*d, ok = v.(int32)
		case *bool:
			*d, ok = v.(bool)
		case *float64:
			*d, ok = v.(float64)
		case *time.Time:
			*d, ok = v.(time.Time)
		case *[]byte:
			*d, ok = v.([]byte)
		case *[]int32:
			*d, ok = v.([]int32)
		case *[][]byte:
			*d, ok = v.([][]byte)
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("scan column %d: %T into %T", i, v, dest[i])
		}
	}
	return nil
}

// errSimFault is what a fault of the simulator returns.
var errSimFault = errors.New("simulated fault")
