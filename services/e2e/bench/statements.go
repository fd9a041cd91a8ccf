package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// postgresSettings are what PostgreSQL needs to count statements, and to log the
// plans of some.
func (c config) postgresSettings() (settings []string) {
	var libraries []string
	if c.Statements > 0 {
		libraries = append(libraries, "pg_stat_statements")
		settings = append(settings, "pg_stat_statements.track_planning=on")
	}
	if c.Profile != "" {
		libraries = append(libraries, "auto_explain")
		settings = append(settings, "auto_explain.log_min_duration=0", "auto_explain.sample_rate=0.01", "auto_explain.log_analyze=on",
			"auto_explain.log_buffers=on", "auto_explain.log_triggers=on", "auto_explain.log_nested_statements=on")
	}
	return append(settings, "shared_preload_libraries="+strings.Join(libraries, ","))
}

// resetStatements forgets what was counted before a case.
func (s *stack) resetStatements(ctx context.Context) error {
	if s.cfg.Statements == 0 {
		return nil
	}
	_, err := s.pool.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("reset statements: %w", err)
	}
	return nil
}

// printStatements tells which statements of a case cost PostgreSQL most.
func (s *stack) printStatements(ctx context.Context, deliveries int) error {
	if s.cfg.Statements == 0 {
		return nil
	}
	rows, err := s.pool.Query(ctx, `
		SELECT query, calls, rows, total_plan_time, total_exec_time, shared_blks_hit + shared_blks_read, wal_bytes::bigint
		FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
		WHERE d.datname = current_database() AND toplevel
		ORDER BY total_plan_time + total_exec_time DESC LIMIT $1`, s.cfg.Statements)
	if err != nil {
		return fmt.Errorf("read statements: %w", err)
	}
	s.say("statements by their time: ms per 1,000 deliveries planning + executing; calls; of a call µs planning + executing, rows, blocks, WAL bytes")
	var query string
	var calls, n, blocks, wal int64
	var plan, exec float64 // ms
	_, err = pgx.ForEachRow(rows, []any{&query, &calls, &n, &plan, &exec, &blocks, &wal}, func() error {
		per := func(v float64) float64 { return v / float64(calls) }
		s.say("%7.1f + %7.1f; %6d; %6.0f + %6.0f, %5.1f, %6.1f, %7.0f  %s", plan*1000/float64(deliveries), exec*1000/float64(deliveries), calls,
			per(plan)*1000, per(exec)*1000, per(float64(n)), per(float64(blocks)), per(float64(wal)), headline(query))
		return nil
	})
	if err != nil {
		return fmt.Errorf("read statements: %w", err)
	}
	return nil
}

// headline is the beginning of a statement: its name, if sqlc gave it one.
func headline(query string) string {
	if name, ok := strings.CutPrefix(query, "-- name: "); ok {
		query, _, _ = strings.Cut(name, " ")
	}
	query = strings.Join(strings.Fields(query), " ")
	return query[:min(len(query), 60)]
}
