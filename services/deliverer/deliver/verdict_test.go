package deliver

import (
	"net/http"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	s := Schedule{time.Second, time.Minute}
	lines := map[time.Duration]bool{time.Second: true, time.Minute: true}
	none := func() float64 { return 0 }
	after := func(code int, d time.Duration) Response {
		o := answered(code)
		o.RetryAfter = d
		return Response{Outcome: o}
	}
	for _, tt := range []struct {
		name     string
		failures int
		response Response
		want     verdict
	}{
		{"success: nothing follows", 0, after(204, 0), verdict{}},
		{"first failure: first step", 0, after(500, 0), verdict{step: time.Second, wait: time.Second}},
		{"second failure: second step", 1, after(500, 0), verdict{step: time.Minute, wait: time.Minute}},
		{"schedule spent: exhausted", 2, after(500, 0), verdict{reason: "exhausted"}},
		{"schedule spent: exhausted, whatever Retry-After says", 2, after(503, time.Hour), verdict{reason: "exhausted"}},
		{"410: disabled, whatever the schedule has left", 0, after(410, 0), verdict{reason: "endpoint_disabled"}},
		{"refused address: retried, as an edit may mend it", 0, Response{Outcome: Outcome{Class: classRefused}}, verdict{step: time.Second, wait: time.Second}},
		{"refused address to the end: says so", 2, Response{Outcome: Outcome{Class: classRefused}}, verdict{reason: "refused_address"}},
		{"cut off by us: does not spend the schedule", 2, Response{Outcome: Outcome{Class: classInterrupted}}, verdict{step: time.Second, wait: time.Second}},
		{"503 with Retry-After: waits longer, in PostgreSQL", 0, after(503, time.Hour), verdict{step: time.Second, wait: time.Hour, waitsFor: "retry_after"}},
		{"429 with Retry-After: the same", 0, after(429, time.Hour), verdict{step: time.Second, wait: time.Hour, waitsFor: "retry_after"}},
		{"Retry-After is never shorter than the schedule", 1, after(503, time.Second), verdict{step: time.Minute, wait: time.Minute}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := judge(s, lines, tt.failures, tt.response, none); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	t.Run("a step of the endpoint's own that has no delay line waits in PostgreSQL", func(t *testing.T) {
		t.Parallel()
		got := judge(Schedule{time.Hour}, lines, 0, after(http.StatusInternalServerError, 0), none)
		if want := (verdict{step: time.Hour, wait: time.Hour, waitsFor: "schedule"}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}
