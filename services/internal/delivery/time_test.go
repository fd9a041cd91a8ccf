package delivery

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cardwire/cardwire/events"
)

func TestFloorBoundsTheIDsOfATime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(0, rapid.Int64Range(0, 1<<62).Draw(t, "at")).UTC()
		id := anyUUID(t, "id")
		if within, want := bytes.Compare(id[:], bound(at)) >= 0, !events.IDTime(id).Before(at); within != want {
			t.Fatalf("%s is of %s: from %s on %v, want %v", id, events.IDTime(id), at, within, want)
		}
	})
	if got := Floor(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)); got != Floor(time.Unix(0, 0)) {
		t.Errorf("before 1970: %s", got)
	}
}

func bound(at time.Time) []byte {
	id := Floor(at)
	return id[:]
}
