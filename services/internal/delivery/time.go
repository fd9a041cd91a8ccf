package delivery

import (
	"time"

	"github.com/google/uuid"
)

// Floor is the smallest id of an event or a delivery of a time or later, to the
// millisecond: ids from Floor(a) on and below Floor(b) are those of a range of
// time. Times before 1970 are of 1970.
func Floor(at time.Time) uuid.UUID {
	ms := max(at.Add(time.Millisecond-time.Nanosecond).UnixMilli(), 0) // the first that is not before
	var id uuid.UUID
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}
