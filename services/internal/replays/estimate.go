package replays

import (
	"context"
	"time"

	"github.com/google/uuid"

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

// DryRun says what a replay would do, and changes nothing. It looks for the time
// given and a moment more: then it returns how far it came. Errors are those of
// Start, but that a replay that overlaps is none.
func DryRun(ctx context.Context, q *db.Queries, r Request, within time.Duration) (e Estimate, err error) {
	begin := time.Now()
	row, err := r.resolve(ctx, q, begin)
	if err != nil {
		return e, err
	}
	row.ID = uuid.Max // its deliveries are thrown away
	for !e.Complete && time.Since(begin) < within {
		b, err := Next(ctx, q, row, maxPairs)
		if err != nil {
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
