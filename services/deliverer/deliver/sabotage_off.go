//go:build !failpoints

package deliver

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// The crash lab's sabotages of this step: see services/internal/failpoint. Here
// they are compiled away.

func (w *Worker) claimSkipped(context.Context, map[uuid.UUID]*item) (work []*item, err error, ok bool) {
	return nil, nil, false
}

func sabotagedLease(d time.Duration) time.Duration { return d }

func settleLost(batch []result) []result { return batch }
