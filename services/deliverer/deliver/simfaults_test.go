package deliver

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errSim is every fault's.
var errSim = errors.New("simulated fault")

// A fault is how a call of store or bus ends.
type fault int

const (
	none   fault = iota
	before       // it fails and did nothing
	after        // it fails, but was stored
	late         // it takes long, perhaps longer than its caller waits
	twice        // it is stored twice; of a message
)

// A plan draws faults by a seed until they end. The same seed draws the same
// sequence; which call gets which depends on the goroutines' order too.
type plan struct {
	mu     sync.Mutex
	rnd    *rand.Rand
	rate   float64
	until  time.Time
	faults int
}

func (p *plan) draw(kinds ...fault) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rnd.Float64() >= p.rate || !time.Now().Before(p.until) {
		return none
	}
	p.faults++
	return kinds[p.rnd.IntN(len(kinds))]
}

func (p *plan) float() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rnd.Float64()
}

// between is a random time from a to b.
func (p *plan) between(a, b time.Duration) time.Duration {
	return a + time.Duration(p.float()*float64(b-a))
}

// A simProcess is one life of a service: once it is killed, nothing that it does
// has any effect.
type simProcess struct {
	store *simStore
	plan  *plan
	dead  atomic.Bool
}

// call runs fn under the fault that is drawn. It holds the store's turn unless
// within a transaction, which holds it already.
func (p *simProcess) call(ctx context.Context, within bool, fn func()) error {
	f := p.plan.draw(before, after, late)
	if f == late {
		select {
		case <-time.After(p.plan.between(0, 15*time.Second)):
		case <-ctx.Done():
			if p.plan.float() < 0.5 {
				return ctx.Err()
			}
			f = after // done all the same
		}
	}
	if !within {
		p.store.turn <- struct{}{}
		defer func() { <-p.store.turn }()
	}
	if f == before || p.dead.Load() {
		return errSim
	}
	fn()
	if f == after {
		return errSim
	}
	return nil
}

func (p *simProcess) query(ctx context.Context, within bool, sql string, args []any) ([][]any, error) {
	var rows [][]any
	err := p.call(ctx, within, func() { rows = p.store.run(sql, args, time.Now()) })
	return rows, err
}

func (p *simProcess) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	_, err := p.query(ctx, false, sql, args)
	return pgconn.CommandTag{}, err
}

func (p *simProcess) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := p.query(ctx, false, sql, args)
	return &simRows{rows: rows}, err
}

func (p *simProcess) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := p.query(ctx, false, sql, args)
	return &simRows{rows: rows, at: 1, err: err}
}

// Begin takes the store's turn until the end of the transaction.
func (p *simProcess) Begin(context.Context) (pgx.Tx, error) {
	p.store.turn <- struct{}{}
	return &simTx{process: p, undo: p.store.copied()}, nil
}

// A simTx is a transaction: what it did is undone unless it is committed.
type simTx struct {
	pgx.Tx
	process *simProcess
	undo    map[uuid.UUID]*simDelivery
	over    bool
}

func (t *simTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	_, err := t.process.query(ctx, true, sql, args)
	return pgconn.CommandTag{}, err
}

func (t *simTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := t.process.query(ctx, true, sql, args)
	return &simRows{rows: rows}, err
}

func (t *simTx) Commit(ctx context.Context) error {
	if t.over {
		return pgx.ErrTxClosed
	}
	committed := false
	err := t.process.call(ctx, true, func() { committed = true })
	t.end(committed)
	return err
}

func (t *simTx) Rollback(context.Context) error {
	if t.over {
		return pgx.ErrTxClosed
	}
	t.end(false)
	return nil
}

func (t *simTx) end(committed bool) {
	if !committed {
		t.process.store.rows = t.undo
	}
	t.over = true
	<-t.process.store.turn
}
