package replays

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/sql/db"
)

// An Estimate is what a replay would do, by a dry run.
type Estimate struct {
	Events     int64   `json:"events" minimum:"0" doc:"Events of the range." example:"12000"`
	Deliveries int64   `json:"deliveries" minimum:"0" doc:"Deliveries that would be made." example:"1204"`
	Skipped    int64   `json:"skipped" minimum:"0" doc:"Pairs of event and endpoint that would be left out, as the mode says." example:"10796"`
	Seconds    float64 `json:"seconds" minimum:"0" doc:"About how long making them would take, at the rate. When they arrive is up to the receiver." example:"2.4"`
	Complete   bool    `json:"complete" doc:"Whether all of the range was looked at. If not, the numbers are those of its beginning: there was no time for more." example:"true"`
}

// pace is how many events a process was measured to read and make deliveries of
// in a second, if nothing holds it up.
const pace = 20_000

// DryRun says what a replay would do, and changes nothing. It looks for as long
// as ctx lets it, but for the errors of Start, of which an overlap is none here:
// when the time is over, it returns how far it came.
func DryRun(ctx context.Context, pool *pgxpool.Pool, r Request, within time.Duration) (e Estimate, err error) {
	q := db.New(pool)
	row, err := r.resolve(ctx, q, time.Now())
	if err != nil {
		return e, err
	}
	row.ID = uuid.Max // of ids that are thrown away
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for !e.Complete {
		b, err := Next(bounded, q, row, maxPairs)
		if err != nil {
			if errors.Is(bounded.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
				break
			}
			return e, err
		}
		e.Events += int64(b.Events)
		e.Deliveries += int64(len(b.Made))
		e.Skipped += int64(b.Skipped)
		row.At, e.Complete = b.At, b.End
	}
	e.Seconds = float64(e.Events) / pace
	if row.Rate != nil {
		e.Seconds = max(e.Seconds, float64(e.Deliveries)/float64(*row.Rate))
	}
	return e, nil
}
