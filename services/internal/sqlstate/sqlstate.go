// Package sqlstate tells PostgreSQL's objections apart by their SQLSTATE.
package sqlstate

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// AboutData says whether err is PostgreSQL's about what a statement was given:
// classes 22 (data exception) and 23 (integrity constraint violation). The same
// data fails again; any other error may pass.
func AboutData(err error) bool { return in(err, "22", "23") }

// AboutStatement says whether err is PostgreSQL's about the statement itself:
// class 42 (syntax error or access rule violation).
func AboutStatement(err error) bool { return in(err, "42") }

// NoPartition says whether err is PostgreSQL's for a row that no partition takes.
func NoPartition(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23514" && pg.ConstraintName == ""
}

// Deadlock says whether err is PostgreSQL's for a transaction that it ended, as
// others waited for it and it for them. Made again, it most likely succeeds.
func Deadlock(err error) bool { return in(err, "40P01") }

// OldSchema says whether err is PostgreSQL's for a table or column that it does
// not have: migrations are missing.
func OldSchema(err error) bool { return in(err, "42P01", "42703") }

func in(err error, classes ...string) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	for _, class := range classes {
		if strings.HasPrefix(pg.Code, class) {
			return true
		}
	}
	return false
}
