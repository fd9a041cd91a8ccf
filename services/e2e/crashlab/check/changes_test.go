package check

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Of the endpoints API's changes.
const (
	fresh  = 15 // the name of an endpoint that was made through the API
	freshE = 16 // and its id
	replay = 900
)

// create has an endpoint of the user be made through the API, after some time.
func (f *forged) create(asked, answered time.Duration, state string) {
	f.Endpoints = append(f.Endpoints, Endpoint{ID: id(freshE), Name: id(fresh), UserID: id(user), Types: []string{"a.b"}, Active: true})
	f.change(Created, fresh, asked, answered, state)
}

func (f *forged) change(kind string, endpoint int, asked, answered time.Duration, state string) *Change {
	f.Changes = append(f.Changes, Change{Kind: kind, Endpoint: id(endpoint), Asked: f.at.Add(asked), Answered: f.at.Add(answered), State: state})
	return &f.Changes[len(f.Changes)-1]
}

// delivered has an event got by the endpoint that was made through the API.
func (f *forged) delivered(event int) {
	f.Deliveries = append(f.Deliveries, Delivery{ID: deliveryID(event, freshE), EventID: id(event), EndpointID: id(freshE), Status: "success", Created: f.at.Add(time.Second)})
	f.attempt(event, freshE, 1, time.Second, time.Millisecond, "success", 204)
	f.Received[len(f.Received)-1].EndpointID = id(fresh) // by its name
}

func (f *forged) deleted() { f.Endpoints[len(f.Endpoints)-1].Deleted = true }

// replay has two events be delivered once more to ep1.
func (f *forged) replay() {
	f.change(Replayed, ep1, time.Minute, time.Minute, Accepted).Replay = id(replay)
	f.Replays = append(f.Replays, Replay{ID: id(replay), State: "finished", Made: 3})
	for event := 101; event <= 103; event++ {
		d := Delivery{ID: id(replay*1000 + event), EventID: id(event), EndpointID: id(ep1), ReplayID: id(replay), Status: "success", Created: f.at.Add(time.Minute)}
		f.Deliveries = append(f.Deliveries, d)
		at := f.at.Add(61 * time.Second)
		f.Attempts = append(f.Attempts, Attempt{DeliveryID: d.ID, N: 1, Started: at, Finished: at, Outcome: "success"})
		f.post(event, ep1, 61*time.Second, 204)
		f.Received[len(f.Received)-1].ReplayID = id(replay)
	}
}

// moveAttempt has the first attempt of an event at ep1 be made later.
func (f *forged) moveAttempt(event int, later time.Duration) {
	for i := range f.Attempts {
		if a := &f.Attempts[i]; a.DeliveryID == deliveryID(event, ep1) && a.N == 1 {
			a.Started, a.Finished = a.Started.Add(later), a.Finished.Add(later)
		}
	}
	for i := range f.Received {
		if r := &f.Received[i]; r.EventID == id(event) && r.EndpointID == id(ep1) && r.ReplayID == uuid.Nil {
			r.At, r.Answered = r.At.Add(later), r.Answered.Add(later)
		}
	}
}

func TestTheCheckerKnowsWhatTheAPISaid(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		forge  func(*forged)
		wants  string
		saying string
	}{
		{"an endpoint was made before an event, which has no delivery there", func(f *forged) {
			f.create(-time.Minute, -time.Minute, Accepted)
			f.delivered(101)
			f.delivered(102)
		}, "I1", "there is no delivery"},
		{"an endpoint was made before all events, and got them", func(f *forged) {
			f.create(-time.Minute, -time.Minute, Accepted)
			for n := 101; n <= 103; n++ {
				f.delivered(n)
			}
		}, "", ""},
		{"an endpoint was made as events came: it may have them", func(f *forged) {
			f.create(-time.Second, 0, Accepted)
			f.delivered(102)
		}, "", ""},
		{"an endpoint was made while a page was asked for, whose view has none", func(f *forged) {
			f.create(-3*time.Second, -3*time.Second, Accepted)
			for i := range f.Published {
				f.Published[i].Via = "page, stream"
			}
		}, "", ""},
		{"nobody knows whether an endpoint was made, and it has nothing", func(f *forged) {
			f.create(-time.Minute, -time.Minute, Unknown)
		}, "", ""},
		{"an endpoint that was made is nowhere", func(f *forged) {
			f.change(Created, fresh, 0, 0, Accepted)
		}, "I9", "is nowhere"},
		{"an endpoint was made twice, though the request was repeated under its key", func(f *forged) {
			f.create(time.Minute, time.Minute, Accepted)
			f.Endpoints = append(f.Endpoints, Endpoint{ID: id(17), Name: id(fresh), UserID: id(user), Types: []string{"a.b"}, Active: true})
		}, "I9", "twice"},
		{"an endpoint was deleted before an event, and got it", func(f *forged) {
			f.create(-time.Hour, -time.Hour, Accepted)
			f.change(Deleted, fresh, -time.Minute, -time.Minute, Accepted)
			f.deleted()
			f.delivered(101)
		}, "I1", "had been deleted before"},
		{"an endpoint was deleted before all events", func(f *forged) {
			f.create(-time.Hour, -time.Hour, Accepted)
			f.change(Deleted, fresh, -time.Minute, -time.Minute, Accepted)
			f.deleted()
		}, "", ""},
		{"an endpoint was deleted after an event was fanned out, without it", func(f *forged) {
			f.create(-time.Hour, -time.Hour, Accepted)
			f.change(Deleted, fresh, time.Minute, time.Minute, Accepted)
			f.deleted()
		}, "I1", "there is no delivery"},
		{"an endpoint was deleted after an event was published, before that was fanned out", func(f *forged) {
			f.create(-time.Hour, -time.Hour, Accepted)
			f.change(Deleted, fresh, time.Millisecond, time.Millisecond, Accepted)
			f.deleted()
		}, "", ""},
		{"an endpoint that was deleted is there", func(f *forged) {
			f.create(-time.Hour, -time.Hour, Accepted)
			f.change(Deleted, fresh, -time.Minute, -time.Minute, Accepted)
		}, "I9", "was deleted, the API said"},
		{"a secret was rotated, and a POST of later is not signed with the new one", func(f *forged) {
			f.change(Rotated, ep1, -time.Minute, -time.Minute, Accepted).Secret = 1
		}, "I8", "not signed with secret 1"},
		{"a secret was rotated, and a POST of later is not signed with the old one", func(f *forged) {
			f.change(Rotated, ep1, -time.Minute, -time.Minute, Accepted).Secret = 1
			for i := range f.Received {
				f.Received[i].Rotated, f.Received[i].Verified = []int{1}, false
			}
		}, "I8", "does not verify"},
		{"a secret was rotated, and what came before is signed with the old one alone", func(f *forged) {
			f.change(Rotated, ep1, time.Hour, time.Hour, Accepted).Secret = 1
		}, "", ""},
		{"nobody knows whether a secret was rotated", func(f *forged) {
			f.change(Rotated, ep1, -time.Minute, -time.Minute, Unknown)
		}, "", ""},
		{"what a replay delivers is no repeat", (*forged).replay, "", ""},
		{"a POST of a replay that nobody asked for", func(f *forged) {
			f.post(103, ep1, time.Minute, 204)
			f.Received[len(f.Received)-1].ReplayID = id(replay)
		}, "I2", "in no attempt's row"},
		{"a repeat within a replay", func(f *forged) {
			f.replay()
			f.post(103, ep1, 62*time.Second, 204)
			f.Received[len(f.Received)-1].ReplayID = id(replay)
		}, "I3", "no fault hit it"},
		{"a replay leaves out an event that was there", func(f *forged) {
			f.replay()
			f.Deliveries = f.Deliveries[:len(f.Deliveries)-1]
			f.Received = f.Received[:len(f.Received)-1]
			f.Attempts = f.Attempts[:len(f.Attempts)-1]
			f.Replays[0].Made = 2
		}, "I1", "by replay"},
		{"a replay leaves out an event whose first attempt began after it was asked for", func(f *forged) {
			f.replay()
			f.moveAttempt(103, time.Hour)
			f.Deliveries = f.Deliveries[:len(f.Deliveries)-1]
			f.Received = f.Received[:len(f.Received)-1]
			f.Attempts = f.Attempts[:len(f.Attempts)-1]
			f.Replays[0].Made = 2
		}, "", ""},
		{"a replay counts another number than it made", func(f *forged) {
			f.replay()
			f.Replays[0].Made = 4
		}, "I9", "3 are there"},
		{"a replay does not end", func(f *forged) {
			f.replay()
			f.Replays[0].State = "running"
		}, "I7", "has not ended"},
		{"a replay that was begun is nowhere", func(f *forged) {
			f.replay()
			f.Replays = nil
		}, "I9", "is nowhere"},
		{"a delivery of a replay that is nowhere", func(f *forged) {
			f.replay()
			f.Replays, f.Changes = nil, nil
		}, "I9", "which is nowhere"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := forge()
			tt.forge(f)
			_, violations := Run(testRules, f.Record)
			for _, v := range violations {
				if v.Invariant == tt.wants && strings.Contains(v.Text, tt.saying) {
					return
				}
			}
			if tt.wants != "" || len(violations) > 0 {
				t.Errorf("want an objection by %q with %q, got %v", tt.wants, tt.saying, violations)
			}
		})
	}
}

func TestCountsOfAReplayAreNoRepeats(t *testing.T) {
	t.Parallel()
	f := forge()
	before, _ := Run(testRules, f.Record)
	f.replay()
	after, _ := Run(testRules, f.Record)
	if after.Repeated != before.Repeated || after.Posts != before.Posts+3 {
		t.Errorf("%+v, before that %+v", after, before)
	}
}
