package endpoints

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSummary(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	path := "/api/webhooks/" + id.String() + "/summary"
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := s.db.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	get := func() Summary {
		t.Helper()
		return decode[Summary](t, s.call(t, alice, "GET", path, nil))
	}
	before := time.Now().Add(-summaryTime - time.Millisecond)
	got := get()
	if got.Since.Before(before) || got.Since.After(time.Now().Add(-summaryTime)) {
		t.Errorf("since %s, want 24 hours ago", got.Since)
	}
	got.Since = time.Time{}
	if diff := cmp.Diff(Summary{State: "active"}, got); diff != "" {
		t.Errorf("of nothing: %s", diff)
	}

	all := s.deliver(t, id, 40) // the last 25 hours or so count
	for i, d := range all {
		switch {
		case i < 10:
			exec(`UPDATE deliveries SET status = 'success', delivered_at = now(), next_attempt_at = NULL WHERE id = $1`, d.ID)
		case i < 13:
			exec(`UPDATE deliveries SET status = 'failed', reason = 'exhausted', next_attempt_at = NULL WHERE id = $1`, d.ID)
		}
		exec(`INSERT INTO attempts (delivery_id, n, endpoint_id, finished_at, outcome, duration_ms) VALUES ($1, 1, $2, now(), 'success', $3), ($1, 2, $2, now(), 'interrupted', 9999)`, d.ID, id, i)
	}
	got = get()
	if got.Delivered != 10 || got.Failed != 3 || got.Waiting != 11 || got.Attempts != 24 || *got.P50Ms != 11 || *got.P95Ms != 22 {
		t.Errorf("counts %+v", got)
	}

	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	until := since.Add(2 * time.Hour)
	text := func(s string) *string { return &s }
	for _, tt := range []struct {
		name, set string
		want      Summary
	}{
		{"failing", `INSERT INTO endpoint_states (endpoint_id, failing_since, failures) SELECT $1, $2, 3 WHERE $3::timestamptz IS NOT NULL`, Summary{State: "failing", StateSince: &since}},
		{"open", `UPDATE endpoint_states SET circuit = 'open', circuit_reason = 'circuit_open', failing_since = $2, circuit_until = $3 WHERE endpoint_id = $1`, Summary{State: "open", Reason: text("circuit_open"), StateSince: &since, Until: &until}},
		{"half open", `UPDATE endpoint_states SET circuit = 'half_open', failing_since = $2, circuit_until = NULL WHERE endpoint_id = $1 AND $3::timestamptz IS NOT NULL`, Summary{State: "half_open", Reason: text("circuit_open"), StateSince: &since}},
		{"disabled, whatever the circuit", `UPDATE endpoints SET is_active = false, disabled_reason = 'gone', disabled_at = $2 WHERE id = $1 AND $3::timestamptz IS NOT NULL`, Summary{State: "disabled", Reason: text("gone"), StateSince: &since}},
	} {
		exec(tt.set, id, since, until)
		got := get()
		if diff := cmp.Diff(tt.want, Summary{State: got.State, Reason: got.Reason, StateSince: got.StateSince, Until: got.Until}); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestASummaryCountsABoundedNumberOfDeliveries(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	old := s.deliver(t, id, 2)[1] // an hour ago
	if _, err := s.db.Exec(t.Context(), `INSERT INTO deliveries (id, event_id, endpoint_id, event_type)
		SELECT new_id(), new_id(), $1, 'card.viewed' FROM generate_series(1, $2)`, id, maxSummarized); err != nil {
		t.Fatal(err)
	}
	got := decode[Summary](t, s.call(t, alice, "GET", "/api/webhooks/"+id.String()+"/summary", nil))
	if got.Waiting != maxSummarized || got.Since.Before(old.event.Time.Add(time.Minute)) {
		t.Errorf("%+v, want the newest %d, and since when those are", got, maxSummarized)
	}
}
