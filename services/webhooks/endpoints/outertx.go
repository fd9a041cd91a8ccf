package endpoints

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/sql/db"
)

// A Database is what a [Store] keeps endpoints in: a pool, or what behaves as one.
type Database interface {
	db.DBTX
	Begin(ctx context.Context) (pgx.Tx, error)
}

// outerKey is where once leaves an *outerTx in the context.
type outerKey struct{}

// An outerTx is a transaction that a request is done in as a whole, with what is
// to be done once it is committed.
type outerTx struct {
	tx        pgx.Tx
	committed []func()
}

// A requestDB is the request's transaction if its context has one, in which Begin
// makes a savepoint, and else the pool. So whatever a handler does belongs to the
// transaction, and no request holds one connection while it waits for another.
type requestDB struct{ pool *pgxpool.Pool }

func (d requestDB) of(ctx context.Context) Database {
	if outer, ok := ctx.Value(outerKey{}).(*outerTx); ok {
		return outer.tx
	}
	return d.pool
}

// Begin is that of pgx.
func (d requestDB) Begin(ctx context.Context) (pgx.Tx, error) { return d.of(ctx).Begin(ctx) }

// Exec is that of pgx.
func (d requestDB) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return d.of(ctx).Exec(ctx, sql, args...)
}

// Query is that of pgx.
func (d requestDB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return d.of(ctx).Query(ctx, sql, args...)
}

// QueryRow is that of pgx.
func (d requestDB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return d.of(ctx).QueryRow(ctx, sql, args...)
}

// afterCommit does what may only be done once the request's transaction is
// committed: to tell the broker, to log that it is done. That is at once, unless
// the context has an outer transaction.
func afterCommit(ctx context.Context, f func()) {
	if outer, ok := ctx.Value(outerKey{}).(*outerTx); ok {
		outer.committed = append(outer.committed, f)
		return
	}
	f()
}
