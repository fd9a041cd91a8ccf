package delivery

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/cardwire/cardwire/events"
)

func anyUUID(t *rapid.T, label string) uuid.UUID {
	return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
}

func TestIDIsDerivedAndTimeOrdered(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		event, a, b := anyUUID(t, "event"), anyUUID(t, "a"), anyUUID(t, "b")
		id := ID(event, a)
		if id != ID(event, a) {
			t.Fatal("not the same again")
		}
		if a != b && id == ID(event, b) {
			t.Fatal("two endpoints, one id")
		}
		if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("%s: version %d, variant %s", id, id.Version(), id.Variant())
		}
		if !events.IDTime(id).Equal(events.IDTime(event)) {
			t.Fatal("not of the event's time")
		}
	})
}

// The derivation must never change: rows outlive a release. The answer was
// computed apart, with Python's hashlib.
func TestIDKnownAnswer(t *testing.T) {
	t.Parallel()
	id := ID(uuid.MustParse("0198c2a0-1111-7000-8000-000000000001"), uuid.MustParse("0198c2a0-2222-7000-8000-000000000002"))
	if want := "0198c2a0-1111-73fe-b4e3-3aa8232c9c3d"; id.String() != want {
		t.Errorf("got %s, want %s", id, want)
	}
}

func TestReplaysHaveIDsOfTheirOwn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		event, endpoint, a, b := anyUUID(t, "event"), anyUUID(t, "endpoint"), anyUUID(t, "a"), anyUUID(t, "b")
		id := ReplayID(event, endpoint, a)
		if id != ReplayID(event, endpoint, a) || id == ID(event, endpoint) || a != b && id == ReplayID(event, endpoint, b) {
			t.Fatal("not one id for each replay")
		}
		low, high := Siblings(event)
		for _, id := range []uuid.UUID{id, ID(event, endpoint)} {
			if id.Version() != 7 || bytes.Compare(id[:], low[:]) < 0 || bytes.Compare(id[:], high[:]) > 0 {
				t.Fatalf("%s: not of its event", id)
			}
		}
	})
}

// The derivation must never change, as that of ID. The answer was computed apart,
// with Python's hashlib.
func TestReplayIDKnownAnswer(t *testing.T) {
	t.Parallel()
	id := ReplayID(uuid.MustParse("0198c2a0-1111-7000-8000-000000000001"), uuid.MustParse("0198c2a0-2222-7000-8000-000000000002"), uuid.MustParse("0198c2a0-3333-7000-8000-000000000003"))
	if want := "0198c2a0-1111-7033-a9b9-a605f7394307"; id.String() != want {
		t.Errorf("got %s, want %s", id, want)
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	t.Parallel()
	d := Delivery{ID: uuid.Must(uuid.NewV7()), EventID: uuid.Must(uuid.NewV7()), EndpointID: uuid.Must(uuid.NewV7())}
	for _, m := range [][]byte{d.FirstMsg().Data, d.AgainMsg().Data, d.WaitMsg(time.Minute).Data} {
		got, err := Decode(m)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, got); diff != "" {
			t.Error(diff)
		}
		if len(m) > 250 {
			t.Errorf("message of %d bytes", len(m))
		}
	}
	if got := d.WaitMsg(5 * time.Minute).Subject; got != "deliveries.wait.5m."+d.EndpointID.String() {
		t.Errorf("subject %s", got)
	}
}

func TestDecodeRefusesWhatIsNoDelivery(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "{}", "[]", `{"id":"x"}`, `{"id":"0198c2a0-1111-7000-8000-000000000001"}`} {
		if _, err := Decode([]byte(data)); err == nil {
			t.Errorf("%q: accepted", data)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) uuid.UUID { return anyUUID(t, "id") }), 1, 20).Draw(t, "ids")
		low, high := Bounds(ids)
		slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
		wantLow, _ := Siblings(ids[0])
		if _, wantHigh := Siblings(ids[len(ids)-1]); low != wantLow || high != wantHigh {
			t.Fatalf("%s to %s of %v", low, high, ids)
		}
	})
}
