package recovery

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/subscription"
	"github.com/cardwire/cardwire/sql/db"
)

// readBodies is how many bodies are read at once to hold them to a filter: 16 MiB at most.
const readBodies = 64

// missing makes the next deliveries of events that the endpoint asks for and
// has none of. at is up to where all events are done now. Those whose bodies
// are no longer kept can't be sent and are left out.
func missing(ctx context.Context, q *db.Queries, rec db.TakeRecoveryRow, end uuid.UUID) (list []delivery.Delivery, at uuid.UUID, err error) {
	rows, err := q.ExamineEvents(ctx, db.ExamineEventsParams{UserID: rec.UserID, After: rec.MissingAt, Before: end, MaxRows: examine})
	if err != nil {
		return nil, at, fmt.Errorf("examine events: %w", err)
	}
	wanted, at, err := wantedEvents(ctx, q, rec, rows, end)
	if err != nil || len(wanted) == 0 {
		return nil, at, err
	}
	p := db.InsertMissingParams{EndpointID: rec.EndpointID, Trigger: delivery.TriggerRecover}
	for _, row := range wanted {
		p.Ids = append(p.Ids, delivery.ID(row.ID, rec.EndpointID))
		p.EventIds = append(p.EventIds, row.ID)
		p.EventTypes = append(p.EventTypes, row.Type)
	}
	made, err := q.InsertMissing(ctx, p)
	if err != nil {
		return nil, at, fmt.Errorf("insert missing deliveries: %w", err)
	}
	for _, d := range made {
		list = append(list, delivery.Delivery{ID: d.ID, EventID: d.EventID, EndpointID: rec.EndpointID})
	}
	return list, at, nil
}

// wantedEvents are those of some events that the endpoint gets, up to batch of
// them, and up to where these are all. end stands for all of rows, if there are no more.
func wantedEvents(ctx context.Context, q *db.Queries, rec db.TakeRecoveryRow, rows []db.ExamineEventsRow, end uuid.UUID) (wanted []db.ExamineEventsRow, at uuid.UUID, err error) {
	at = end
	var asked []db.ExamineEventsRow // by type, and not yet held to the filter
	for i, row := range rows {
		if row.HasBody && subscription.WantsType(rec.Events, row.Type) {
			asked = append(asked, row)
		}
		last := i == examine-1
		if len(asked) == readBodies || last || i == len(rows)-1 || len(wanted)+len(asked) == batch {
			passed, err := passing(ctx, q, rec.Filter, asked)
			if err != nil {
				return nil, at, err
			}
			wanted, asked = append(wanted, passed...), asked[:0]
		}
		if len(wanted) == batch || last {
			return wanted, row.ID, nil
		}
	}
	return wanted, at, nil
}

// passing leaves of some events those that pass a filter. Without one, or with
// one that can't be read, these are all, as in fan-out.
func passing(ctx context.Context, q *db.Queries, text []byte, rows []db.ExamineEventsRow) ([]db.ExamineEventsRow, error) {
	if text == nil || len(rows) == 0 {
		return rows, nil
	}
	filter, err := subscription.ParseFilter(text)
	if err != nil {
		return rows, nil
	}
	ids := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	bodies, err := q.EventBodies(ctx, db.EventBodiesParams{Ids: ids, Low: ids[0], High: ids[len(ids)-1]})
	if err != nil {
		return nil, fmt.Errorf("read bodies: %w", err)
	}
	passes := make(map[uuid.UUID]bool, len(bodies))
	for _, b := range bodies {
		passes[b.ID] = filter.Passes(subscription.ReadData(b.Body))
	}
	var list []db.ExamineEventsRow
	for _, row := range rows {
		if passes[row.ID] {
			list = append(list, row)
		}
	}
	return list, nil
}
