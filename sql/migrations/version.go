package migrations

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
)

// A Querier reads from the database: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Latest returns the number of the newest embedded migration.
func Latest() (int64, error) { return latest(files) }

func latest(fsys fs.FS) (n int64, err error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return 0, fmt.Errorf("list migrations: %w", err)
	}
	for _, name := range names {
		v, err := goose.NumericComponent(name)
		if err != nil {
			return 0, fmt.Errorf("read the number of migration %s: %w", name, err)
		}
		n = max(n, v)
	}
	return n, nil
}

// Version returns the number of the newest migration that the database has
// seen, 0 for an empty database. It only reads.
func Version(ctx context.Context, db Querier) (n int64, err error) {
	var exists bool
	err = db.QueryRow(ctx, "SELECT to_regclass('"+goose.DefaultTablename+"') IS NOT NULL").Scan(&exists)
	if err == nil && exists {
		err = db.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+goose.DefaultTablename+" WHERE is_applied").Scan(&n)
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the schema: %w", err)
	}
	return n, nil
}

// Pending reports whether the database lacks migrations that this program
// knows. A database newer than the program lacks none: migrations are safe
// while the old code runs.
func Pending(ctx context.Context, db Querier) (bool, error) {
	want, err := Latest()
	if err != nil {
		return false, err
	}
	have, err := Version(ctx, db)
	return have < want, err
}

// Sum returns a short hash of all embedded migrations: two programs with the
// same sum make the same schema.
func Sum() (string, error) { return sum(files) }

func sum(fsys fs.FS) (string, error) {
	names, err := fs.Glob(fsys, "*.sql") // sorted
	if err != nil {
		return "", fmt.Errorf("list migrations: %w", err)
	}
	h := sha256.New()
	for _, name := range names {
		b, err := fs.ReadFile(fsys, name)
		if err != nil {
			return "", fmt.Errorf("read migration: %w", err)
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(b), b)
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}
