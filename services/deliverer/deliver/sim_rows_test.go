package deliver

import (
	"fmt"
	"strings"
	"time"
)

// away is how far a time is, in steps of the grid.
func away(at *time.Time) string {
	switch {
	case at == nil || at.IsZero():
		return ""
	case at.Year() == 9999:
		return "parked"
	default:
		return fmt.Sprint((time.Until(*at) + 1000*grid + grid/2).Truncate(grid) - 1000*grid)
	}
}

// real and simulated write out all rows.
func (p *pair) real() (lines []string) {
	p.t.Helper()
	rows, err := p.pool.Query(p.t.Context(), `
		SELECT d.id, d.status, coalesce(d.reason, ''), coalesce(d.waits_for, ''), d.attempts, d.failures, d.next_attempt_at, d.leased_until, d.swept_at,
		       coalesce(d.claim_id, '00000000-0000-0000-0000-000000000000'),
		       d.exhausted_at IS NOT NULL, (SELECT coalesce(string_agg(a.n || ' ' || coalesce(a.outcome, 'open'), ', ' ORDER BY a.n), '') FROM attempts a WHERE a.delivery_id = d.id)
		FROM deliveries d ORDER BY d.id`)
	if err != nil {
		p.t.Fatal(err)
	}
	for rows.Next() {
		var d simDelivery
		var next, leased, swept *time.Time
		var exhausted bool
		var attempts string
		if err := rows.Scan(&d.id, &d.status, &d.reason, &d.waitsFor, &d.attempts, &d.failures, &next, &leased, &swept, &d.claimID, &exhausted, &attempts); err != nil {
			p.t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(d.id, d.status, d.reason, d.waitsFor, d.attempts, d.failures, away(next), away(leased), away(swept), d.claimID, exhausted, attempts))
	}
	rows, err = p.pool.Query(p.t.Context(), `
		SELECT e.id, e.is_active, coalesce(s.waits_for, ''), s.wait_until, s.failing_since, coalesce(s.failures, 0), coalesce(s.ending, false)
		FROM endpoints e LEFT JOIN endpoint_states s ON s.endpoint_id = e.id ORDER BY e.id`)
	if err != nil {
		p.t.Fatal(err)
	}
	for rows.Next() {
		var e simEndpoint
		var until, since *time.Time
		if err := rows.Scan(&e.id, &e.active, &e.waitsFor, &until, &since, &e.failures, &e.ending); err != nil {
			p.t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(e.id, e.active, e.waitsFor, away(until), away(since), e.failures, e.ending))
	}
	return lines
}

func (p *pair) simulated() (lines []string) {
	for _, d := range p.sim.deliveries {
		var attempts []string
		for _, a := range p.sim.attempts {
			if a.deliveryID == d.id {
				outcome := a.outcome
				if outcome == "" {
					outcome = "open"
				}
				attempts = append(attempts, fmt.Sprint(a.n, " ", outcome))
			}
		}
		lines = append(lines, fmt.Sprint(d.id, d.status, d.reason, d.waitsFor, d.attempts, d.failures, away(&d.next), away(&d.leased), away(&d.swept),
			d.claimID, !d.exhausted.IsZero(), strings.Join(attempts, ", ")))
	}
	for _, e := range p.sim.endpoints { // in order of their ids, which are UUIDv7
		lines = append(lines, fmt.Sprint(e.id, e.active, e.waitsFor, away(&e.waitUntil), away(&e.failingSince), e.failures, e.ending))
	}
	return lines
}
