package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
)

func TestWhenAllIsWellAgain(t *testing.T) {
	t.Parallel()
	ended := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	event, endpoint := uuid.New(), uuid.New()
	at := func(seconds float64) time.Time { return ended.Add(time.Duration(seconds * float64(time.Second))) }
	post := func(seconds float64, status int) check.Received {
		return check.Received{EventID: event, EndpointID: endpoint, Status: status, At: at(seconds), Answered: at(seconds)}
	}
	for _, tt := range []struct {
		name     string
		accepted float64
		received []check.Received
		want     time.Duration
	}{
		{"received before the fault ended: nothing was wrong", -3, []check.Received{post(-1, 204)}, 0},
		{"accepted before, received after: until then", -3, []check.Received{post(2, 204)}, 2 * time.Second},
		{"a failure does not count", -3, []check.Received{post(1, 500), post(4, 204)}, 4 * time.Second},
		{"of several, the first success counts", -3, []check.Received{post(8, 204), post(1, 204)}, time.Second},
		{"accepted since and received soon: all was well", 1, []check.Received{post(5.5, 204)}, 0},
		{"accepted since and late: until then", 1, []check.Received{post(7, 204)}, 7 * time.Second},
		{"never received: the checker's business", -3, nil, 0},
		{"somebody else's POST does not count", -3, []check.Received{{EventID: event, EndpointID: uuid.New(), Status: 204, Answered: at(1)}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := wellAgain(ended, []due{{event, endpoint, at(tt.accepted)}}, tt.received); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestWhoIsToGetWhat(t *testing.T) {
	t.Parallel()
	user, other, id := uuid.New(), uuid.New(), uuid.New()
	both := &target{id: uuid.New(), user: user, types: []string{common, viewed}}
	r := &run{targets: []*target{
		both,
		{id: uuid.New(), user: user, types: []string{viewed}},
		{id: uuid.New(), user: other, types: []string{common}},
	}}
	first := time.Now()
	pairs := r.pairs([]check.Published{
		{EventID: id, UserID: user, Type: common, State: check.Intended, At: first.Add(-time.Second)},
		{EventID: id, UserID: user, Type: common, State: check.Accepted, At: first},
		{EventID: id, UserID: user, Type: common, State: check.Accepted, At: first.Add(time.Second)},
		{EventID: uuid.New(), UserID: user, Type: common, State: check.Unknown, At: first},
	})
	if len(pairs) != 1 || pairs[0] != (due{id, both.id, first}) {
		t.Errorf("pairs: %v; want the one endpoint that wants it, since it was first accepted", pairs)
	}
}

func TestQuantilesAreOfWhatWasMeasured(t *testing.T) {
	t.Parallel()
	var twenty []time.Duration
	for i := range 20 {
		twenty = append(twenty, time.Duration(20-i)*time.Second)
	}
	for _, tt := range []struct {
		name  string
		times []time.Duration
		q     float64
		want  time.Duration
	}{
		{"half of twenty: the tenth", twenty, 0.5, 10 * time.Second},
		{"p95 of twenty: the nineteenth", twenty, 0.95, 19 * time.Second},
		{"all of twenty: the last", twenty, 1, 20 * time.Second},
		{"p95 of five: the last", twenty[:5], 0.95, 20 * time.Second},
		{"of one: that", twenty[:1], 0.5, 20 * time.Second},
		{"of none", nil, 0.5, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := quantile(tt.times, tt.q); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestARecoveryThatTookTooLongIsWrong(t *testing.T) {
	t.Parallel()
	r := &recovered{breakdown: breakdown{name: "broker killed", asked: 10 * time.Second}, took: []time.Duration{time.Second, 11 * time.Second}}
	row, err := r.row()
	if err == nil || !strings.Contains(err.Error(), "broker killed: recovery takes 11s at p95, asked is 10s") {
		t.Errorf("error %v", err)
	}
	if want := "| broker killed | 10 s | 1.0 s | 11.0 s | 11.0 s | 0 | 0 | 0 | 0 |\n"; row != want {
		t.Errorf("row %q, want %q", row, want)
	}
	r.took[1] = 9 * time.Second
	if _, err := r.row(); err != nil {
		t.Errorf("in time, and yet: %v", err)
	}
}

func TestEachBreakdownHasANameOfItsOwnAndATimeToBeOverIn(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, b := range breakdowns(5 * time.Minute) {
		if dir := strings.Map(letters, b.name); seen[dir] || b.asked == 0 || b.does == nil {
			t.Errorf("%q is there twice, asks for nothing, or does nothing", b.name)
		} else {
			seen[dir] = true
		}
	}
}
