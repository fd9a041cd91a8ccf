//go:build failpoints

package deliver

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/failpoint"
)

// The crash lab's sabotages of this step: see services/internal/failpoint. A
// checker that does not notice them proves nothing.

// claimSkipped reads what an attempt needs and claims nothing.
func (w *Worker) claimSkipped(ctx context.Context, items map[uuid.UUID]*item) (work []*item, err error, ok bool) {
	if !failpoint.Sabotaged("claim skipped") {
		return nil, nil, false
	}
	for id, it := range items {
		a := Attempt{DeliveryID: id, EventID: it.delivery.EventID, EndpointID: it.delivery.EndpointID}
		var sealed []byte
		err := w.pool.QueryRow(ctx, `SELECT d.event_type, d.attempts + 1, d.failures, e.url, e.user_id, s.ciphertext, v.body
			FROM deliveries d JOIN events v ON v.id = d.event_id JOIN endpoints e ON e.id = d.endpoint_id JOIN endpoint_secrets s ON s.endpoint_id = e.id
			WHERE d.id = $1 ORDER BY s.id LIMIT 1`, id).
			Scan(&a.EventType, &a.N, &a.Failures, &a.URL, &it.userID, &sealed, &a.Body)
		if errors.Is(err, pgx.ErrNoRows) {
			continue // its endpoint is deleted: nobody can sign it
		}
		if err != nil {
			return nil, err, true
		}
		w.open(&a, [][]byte{sealed}, [][]byte{nil})
		it.Attempt, it.schedule, it.claim = a, w.cfg.Schedule, w.newClaim()
		work = append(work, it)
	}
	return work, nil, true
}

// sabotagedLease is no lease: it runs out at once.
func sabotagedLease(d time.Duration) time.Duration {
	if failpoint.Sabotaged("no lease") {
		return 0
	}
	return d
}

// settleLost loses a fiftieth of the results.
func settleLost(batch []result) []result {
	if !failpoint.Sabotaged("settle lost") {
		return batch
	}
	var kept []result
	for _, r := range batch {
		if rand.IntN(50) > 0 {
			kept = append(kept, r)
		}
	}
	return kept
}
