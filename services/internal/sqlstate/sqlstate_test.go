package sqlstate

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestClasses(t *testing.T) {
	t.Parallel()
	pg := func(code, constraint string) error {
		return fmt.Errorf("insert: %w", &pgconn.PgError{Code: code, ConstraintName: constraint})
	}
	for _, tt := range []struct {
		name                                    string
		err                                     error
		data, statement, noPartition, oldSchema bool
	}{
		{"invalid byte sequence", pg("22021", ""), true, false, false, false},
		{"unique violation", pg("23505", "events_pkey"), true, false, false, false},
		{"check of a constraint", pg("23514", "events_check"), true, false, false, false},
		{"no partition for the row", pg("23514", ""), true, false, true, false},
		{"no such column", pg("42703", ""), false, true, false, true},
		{"no such table", pg("42P01", ""), false, true, false, true},
		{"may not", pg("42501", ""), false, true, false, false},
		{"deadlock", pg("40P01", ""), false, false, false, false},
		{"server stops", pg("57P01", ""), false, false, false, false},
		{"no answer", errors.New("connection refused"), false, false, false, false},
		{"none", nil, false, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if o := OldSchema(tt.err); o != tt.oldSchema {
				t.Errorf("old schema %v", o)
			}
			if d, s, n := AboutData(tt.err), AboutStatement(tt.err), NoPartition(tt.err); d != tt.data || s != tt.statement || n != tt.noPartition {
				t.Errorf("about data %v, about the statement %v, no partition %v", d, s, n)
			}
		})
	}
}
