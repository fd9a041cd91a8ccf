package check

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// forged is a record of a run in which nothing is wrong: of three events at
// two endpoints that want them, the first pair needs a retry, and an attempt
// of the second is cut off by a kill after it was answered.
type forged struct {
	Record
	at time.Time
}

var testRules = Rules{Steps: 3, Lease: 11 * time.Second, Slack: time.Second, Settle: 10 * time.Second, Publish: 5 * time.Second}

func id(n int) uuid.UUID { return uuid.MustParse(fmt.Sprintf("0192f0c1-2b3c-7d4e-8f50-%012d", n)) }

const (
	user     = 1
	stranger = 2
	ep1      = 11
	ep2      = 12
	foreign  = 13 // of the stranger
	gone     = 14 // disabled
)

func forge() *forged {
	f := &forged{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for n, owner := range map[int]int{ep1: user, ep2: user, foreign: stranger} {
		f.Endpoints = append(f.Endpoints, Endpoint{ID: id(n), Name: id(n), UserID: id(owner), Types: []string{"a.b"}, Active: true})
	}
	f.Endpoints = append(f.Endpoints, Endpoint{ID: id(gone), Name: id(gone), UserID: id(user), Types: []string{"a.b"}})
	for n := 101; n <= 103; n++ {
		body := Hash([]byte{byte(n)})
		line := Published{EventID: id(n), UserID: id(user), Type: "a.b", Via: "stream", State: Intended, BodyHash: body, At: f.at}
		f.Published = append(f.Published, line)
		line.State = Accepted
		f.Published = append(f.Published, line)
		f.Events = append(f.Events, Event{ID: id(n), UserID: id(user), Type: "a.b", BodyHash: body})
		for _, ep := range []int{ep1, ep2} {
			f.Deliveries = append(f.Deliveries, Delivery{ID: deliveryID(n, ep), EventID: id(n), EndpointID: id(ep), Status: "success", Created: f.at.Add(time.Second)})
			switch {
			case n == 101 && ep == ep1:
				f.attempt(n, ep, 1, 0, 100*time.Millisecond, "failure", 500)
				f.attempt(n, ep, 2, time.Second, 100*time.Millisecond, "success", 204)
			case n == 102 && ep == ep1:
				f.attempt(n, ep, 1, 30*time.Second, 11*time.Second, "interrupted", 204)
				f.attempt(n, ep, 2, 42*time.Second, 100*time.Millisecond, "success", 204)
			default:
				f.attempt(n, ep, 1, 0, 100*time.Millisecond, "success", 204)
			}
		}
	}
	f.Published = append(f.Published, Published{EventID: id(104), UserID: id(user), Type: "a.b", State: Unknown, At: f.at})
	f.Faults = append(f.Faults, Fault{Name: "deliverer killed", Cuts: true, From: f.at.Add(30 * time.Second), To: f.at.Add(31 * time.Second)})
	return f
}

func deliveryID(event, ep int) uuid.UUID { return id(event*1000 + ep) }

// attempt adds an attempt and its POST.
func (f *forged) attempt(event, ep, n int, after, took time.Duration, outcome string, status int) {
	started := f.at.Add(after)
	f.Attempts = append(f.Attempts, Attempt{DeliveryID: deliveryID(event, ep), N: n, Started: started, Finished: started.Add(took), Outcome: outcome})
	f.post(event, ep, after+50*time.Millisecond, status)
}

func (f *forged) post(event, ep int, after time.Duration, status int) {
	at := f.at.Add(after)
	f.Received = append(f.Received, Received{
		EventID: id(event), EndpointID: id(ep), BodyHash: Hash([]byte{byte(event)}), Verified: true, Status: status, At: at, Answered: at,
	})
}

func (f *forged) delivery(event, ep int) *Delivery {
	for i, d := range f.Deliveries {
		if d.ID == deliveryID(event, ep) {
			return &f.Deliveries[i]
		}
	}
	panic("no such delivery")
}

// drop removes the POSTs of a pair.
func (f *forged) drop(event, ep int) {
	var kept []Received
	for _, r := range f.Received {
		if r.EventID != id(event) || r.EndpointID != id(ep) {
			kept = append(kept, r)
		}
	}
	f.Received = kept
}

func (f *forged) firstAttempt(event, ep int) *Attempt {
	for i, a := range f.Attempts {
		if a.DeliveryID == deliveryID(event, ep) {
			return &f.Attempts[i]
		}
	}
	panic("no such attempt")
}

func TestTheCheckerObjectsToEachViolation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		forge  func(*forged)
		wants  string // invariant; empty: none is broken
		saying string
	}{
		{"nothing is wrong", func(*forged) {}, "", ""},
		{"an accepted event is nowhere", func(f *forged) { f.Events = f.Events[:2] }, "I1", "is nowhere"},
		{"an event that nobody accepted is nowhere: nothing was promised", func(f *forged) {
			f.Published = append(f.Published, Published{EventID: id(105), State: Refused})
		}, "", ""},
		{"an event has no delivery at an endpoint that wants it", func(f *forged) {
			f.Deliveries = f.Deliveries[:len(f.Deliveries)-1]
			f.drop(103, ep2)
		}, "I1", "there is no delivery"},
		{"an event of unknown fate got to one of its endpoints only", func(f *forged) {
			f.Events = append(f.Events, Event{ID: id(104), UserID: id(user), Type: "a.b", BodyHash: Hash([]byte{104})})
			f.Deliveries = append(f.Deliveries, Delivery{ID: deliveryID(104, ep1), EventID: id(104), EndpointID: id(ep1), Status: "success"})
			f.attempt(104, ep1, 1, 0, time.Millisecond, "success", 204)
		}, "I1", "there is no delivery"},
		{"a delivery is said to be made, and the receiver never got it", func(f *forged) { f.drop(103, ep1) }, "I1", "the receiver has none"},
		{"a delivery is said to be made, and the receiver refused it", func(f *forged) {
			f.drop(103, ep1)
			f.post(103, ep1, 0, 500)
		}, "I1", "the receiver has none"},
		{"a delivery is given up with attempts left", func(f *forged) {
			d := f.delivery(103, ep1)
			d.Status, d.Reason = "failed", "exhausted"
		}, "I1", "with attempts left"},
		{"a delivery is given up after all its attempts: visible, and to be had again", func(f *forged) {
			d := f.delivery(103, ep1)
			d.Status, d.Reason = "failed", "exhausted"
			f.drop(103, ep1)
			a := f.firstAttempt(103, ep1)
			a.Outcome = "failure"
			f.post(103, ep1, 0, 500)
			for n := 2; n <= 4; n++ {
				f.attempt(103, ep1, n, time.Duration(n)*time.Second, time.Millisecond, "failure", 500)
			}
		}, "", ""},
		{"a delivery ended because its endpoint is disabled, and that is active", func(f *forged) {
			d := f.delivery(103, ep1)
			d.Status, d.Reason = "failed", "endpoint_disabled"
		}, "I1", "which it is not"},
		{"a delivery was given up because we were cut off", func(f *forged) {
			d := f.delivery(103, ep1)
			d.Status, d.Reason = "failed", "interrupted"
			f.drop(103, ep1)
		}, "I1", "cut off too often"},
		{"a delivery to an endpoint of somebody else", func(f *forged) {
			f.Deliveries = append(f.Deliveries, Delivery{ID: deliveryID(103, foreign), EventID: id(103), EndpointID: id(foreign), Status: "success"})
			f.attempt(103, foreign, 1, 0, time.Millisecond, "success", 204)
		}, "I1", "does not want it"},
		{"a POST to an endpoint of somebody else", func(f *forged) { f.post(103, foreign, 0, 204) }, "I1", "does not want it"},
		{"a POST of an event that is not stored", func(f *forged) { f.post(109, ep1, 0, 204) }, "I1", "not stored"},
		{"an event was set aside as none", func(f *forged) { f.Dead = 1 }, "I1", "set aside"},
		{"a POST without an attempt", func(f *forged) { f.post(103, ep1, 10*time.Millisecond, 500) }, "I2", "in no attempt's row"},
		{"a POST long before its attempt began", func(f *forged) {
			a := f.firstAttempt(103, ep1)
			a.Started, a.Finished = a.Started.Add(time.Minute), a.Finished.Add(time.Minute)
		}, "I2", "in no attempt's row"},
		{"a repeat that no fault explains", func(f *forged) { f.Faults = nil }, "I3", "no fault hit it"},
		{"a repeat near a fault that cannot have caused it", func(f *forged) { f.Faults[0].Cuts = false }, "I3", "no fault hit it"},
		{"a repeat long after a fault", func(f *forged) {
			f.Faults[0].From, f.Faults[0].To = f.at, f.at.Add(time.Second)
		}, "I3", "no fault hit it"},
		{"a repeat after a kill before a slow settle was through", func(f *forged) {
			f.Faults[0].From, f.Faults[0].To = f.at.Add(38*time.Second), f.at.Add(39*time.Second)
		}, "", ""},
		{"a repeat after a kill by which the settle would have been given up", func(f *forged) {
			f.Faults[0].From, f.Faults[0].To = f.at.Add(41*time.Second+100*time.Millisecond), f.at.Add(41*time.Second+200*time.Millisecond)
		}, "I3", "no fault hit it"},
		{"a repeat after a kill long after the first was settled, as a failure", func(f *forged) {
			f.Faults[0].From, f.Faults[0].To = f.at.Add(38*time.Second), f.at.Add(39*time.Second)
			f.firstAttempt(102, ep1).Outcome = "failure"
			f.post(102, ep1, 37*time.Second, 500)
		}, "I3", "no fault hit it"},
		{"a success whose answer did not reach us in time is repeated", func(f *forged) {
			f.Faults = nil
			f.firstAttempt(102, ep1).Outcome = "failure"
		}, "", ""},
		{"an attempt after one that succeeded", func(f *forged) {
			f.attempt(103, ep1, 2, 10*time.Second, time.Millisecond, "success", 204)
		}, "I3", "began after attempt 1 had succeeded"},
		{"a POST with other bytes", func(f *forged) { f.Received[0].BodyHash = Hash(nil) }, "I3", "other bytes"},
		{"an event stored with other bytes than were published", func(f *forged) {
			for i := range f.Published {
				f.Published[i].BodyHash = Hash(nil)
			}
		}, "I3", "another body"},
		{"an attempt too many", func(f *forged) {
			for n := range 5 {
				f.attempt(103, ep1, n+2, time.Duration(n-9)*time.Second, time.Millisecond, "failure", 500)
			}
		}, "I4", "the schedule has 4"},
		{"an attempt more, as the result of the first came after its lease had run out", func(f *forged) {
			f.firstAttempt(102, ep1).Outcome = "failure"
			for n := range 3 {
				f.attempt(102, ep1, n+3, time.Duration(43+n)*time.Second, time.Millisecond, "failure", 500)
			}
			for i, r := range f.Received {
				if r.EventID == id(102) && r.EndpointID == id(ep1) {
					f.Received[i].Status = 500
				}
			}
			f.Attempts[len(f.Attempts)-1].Outcome = "success"
			f.Received[len(f.Received)-1].Status = 204
			for i, a := range f.Attempts {
				if a.DeliveryID == deliveryID(102, ep1) && a.N == 2 {
					f.Attempts[i].Outcome = "failure"
				}
			}
			f.attempt(102, ep1, 0, 20*time.Second, time.Millisecond, "failure", 500)
		}, "", ""},
		{"two attempts at once", func(f *forged) {
			f.attempt(103, ep1, 2, 20*time.Millisecond, time.Second, "failure", 500)
		}, "I4", "overlap"},
		{"two attempts at once, as the lease of the first had run out", func(f *forged) {
			f.firstAttempt(102, ep1).Finished = f.at.Add(time.Minute) // late, and truthful
		}, "", ""},
		{"an attempt was closed before its lease ran out", func(f *forged) {
			a := f.firstAttempt(102, ep1)
			a.Finished = a.Started.Add(time.Second)
		}, "I4", "before its lease ran out"},
		{"an attempt was closed as the one before it, whose lease had run out, succeeded after all", func(f *forged) {
			a := f.firstAttempt(102, ep1)
			a.Outcome, a.Finished = "success", f.at.Add(43*time.Second)
			for i := range f.Attempts {
				if b := &f.Attempts[i]; b.DeliveryID == a.DeliveryID && b.N == 2 {
					b.Outcome, b.Finished = "interrupted", f.at.Add(43*time.Second)
				}
			}
		}, "", ""},
		{"an attempt was cut off by the deliverer itself", func(f *forged) {
			a := f.firstAttempt(102, ep1)
			a.Finished, a.Class = a.Started.Add(time.Second), "interrupted"
		}, "", ""},
		{"a delivery is pending when all is over", func(f *forged) { f.delivery(103, ep1).Status = "pending" }, "I7", "still pending"},
		{"an attempt has no end", func(f *forged) { f.firstAttempt(103, ep1).Outcome = "" }, "I7", "has no end"},
		{"the outbox is not empty", func(f *forged) { f.Outbox = 3 }, "I7", "3 rows"},
		{"a signature does not verify", func(f *forged) { f.Received[3].Verified = false }, "I8", "does not verify"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := forge()
			tt.forge(f)
			_, violations := Run(testRules, f.Record)
			if tt.wants == "" {
				if len(violations) > 0 {
					t.Errorf("objected: %v", violations)
				}
				return
			}
			for _, v := range violations {
				if v.Invariant == tt.wants && strings.Contains(v.Text, tt.saying) {
					return
				}
			}
			t.Errorf("want an objection by %s with %q, got %v", tt.wants, tt.saying, violations)
		})
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	f := forge()
	f.Events = f.Events[:2] // with it, two POSTs are of an event that is not stored
	got, _ := Run(testRules, f.Record)
	if want := (Counts{Refused: 1, Accepted: 3, Deliveries: 6, Posts: 8, Lost: 1, Repeated: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAJournalIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "faults")
	want := forge().Faults
	for range 2 { // it is gone on with
		j, err := OpenJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		j.Write(want[0])
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadJournal[Fault](path)
	if diff := cmp.Diff(append(want, want[0]), got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if none, err := ReadJournal[Fault](path + "-none"); none != nil || err != nil {
		t.Errorf("of a file that is not there: %v, %v", none, err)
	}
}
