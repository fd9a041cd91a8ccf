package replays

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

func TestProgressIsByEventsOrElseByTime(t *testing.T) {
	t.Parallel()
	at := func(minutes int) uuid.UUID {
		return delivery.Floor(time.Date(2026, 8, 2, 14, minutes, 0, 0, time.UTC))
	}
	total := func(n int64) *int64 { return &n }
	for name, tc := range map[string]struct {
		row  db.Replay
		want float64
	}{
		"it has just begun":                      {db.Replay{State: Running, Total: total(100)}, 0},
		"a quarter of the events is done":        {db.Replay{State: Running, Total: total(100), Done: 25}, 0.25},
		"more events came since":                 {db.Replay{State: Running, Total: total(100), Done: 120}, 1},
		"there are no events":                    {db.Replay{State: Running, Total: total(0)}, 0},
		"there were no events":                   {db.Replay{State: Finished, Total: total(0)}, 1},
		"no total, and half of the time is done": {db.Replay{State: Running, Done: 7, StartID: at(0), EndID: at(40), At: at(20)}, 0.5},
		"no total, and nothing is done":          {db.Replay{State: Running, StartID: at(0), EndID: at(40), At: at(0)}, 0},
		"cancelled on the way":                   {db.Replay{State: Cancelled, Total: total(4), Done: 1}, 0.25},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := progress(tc.row); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestNextAndPreviousIDs(t *testing.T) {
	t.Parallel()
	a, b := uuid.MustParse("0198c2a0-1111-7000-8000-0000000000ff"), uuid.MustParse("0198c2a0-1111-7000-8000-000000000100")
	if next(a) != b || previous(b) != a {
		t.Errorf("after %s comes %s, before %s %s", a, next(a), b, previous(b))
	}
	if previous(uuid.Nil) != uuid.Nil {
		t.Error("there is none before the first")
	}
}
