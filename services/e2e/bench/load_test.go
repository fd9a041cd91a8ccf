package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

func TestBodiesHaveTheSizeThatWasAskedFor(t *testing.T) {
	t.Parallel()
	for _, bytes := range []int{minBytes, 512, 64 << 10, 256 << 10} {
		l := newLoad(1, bytes, []uuid.UUID{uuid.Must(uuid.NewV7())})
		due := time.Now()
		e, err := l.event(0, due)
		if err != nil {
			t.Fatal(err)
		}
		if short := bytes - len(e.Body); short < 0 || short > 7 { // a timestamp drops trailing zeros
			t.Errorf("%d bytes, want %d", len(e.Body), bytes)
		}
		if got := dueIn(e.Body); !got.Equal(due) {
			t.Errorf("due %v, want %v", got, due)
		}
	}
}

func TestWhenAnEventWasDue(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		body string
		want time.Time
	}{
		"the bench's own says it":        {`{"type":"t","timestamp":"2026-11-23T18:30:04Z","data":{"due":"1500000000","filler":""}}`, time.Unix(1, 500000000)},
		"others were due when they were": {`{"type":"t","timestamp":"2026-11-23T18:30:04.5Z","data":{}}`, time.Date(2026, 11, 23, 18, 30, 4, 5e8, time.UTC)},
		"no event":                       {`{}`, time.Time{}},
		"nothing":                        {``, time.Time{}},
		"rubbish":                        {`"due":"x"`, time.Time{}},
	} {
		if got := dueIn([]byte(row.body)); !got.Equal(row.want) {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

// One call stalls for a second. Those behind it are neither put off nor made to
// look due later; and one that begins late counts from when it was due.
func TestAStallMovesNoDueTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const count, perSecond = 50, 10
		begun := time.Now()
		var mu sync.Mutex
		due, began := make(map[int]time.Duration), make(map[int]time.Duration)
		err := pace(t.Context(), count, perSecond, func(i int, at time.Time) error {
			mu.Lock()
			due[i], began[i] = at.Sub(begun), time.Since(begun)
			mu.Unlock()
			if i == 3 {
				time.Sleep(10 * time.Second)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range count {
			if want := time.Duration(i) * time.Second / perSecond; due[i] != want || began[i] != want {
				t.Errorf("call %d was due at %s and began at %s, want %s", i, due[i], began[i], want)
			}
		}
		if took := time.Since(begun); took != 10300*time.Millisecond {
			t.Errorf("returned after %s, want once the last call has returned", took)
		}
	})
}

func TestPaceReturnsWhatFailedAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		if err := pace(t.Context(), 2, 1, func(int, time.Time) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("got %v, want the calls' error", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		var calls atomic.Int32
		err := pace(ctx, 1000, 1, func(int, time.Time) error { calls.Add(1); return nil })
		if !errors.Is(err, context.DeadlineExceeded) || calls.Load() != 2 {
			t.Errorf("%d calls and %v, want 2 and the context's error", calls.Load(), err)
		}
	})
}

func TestAtOnceMakesEachCallOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	made := make(map[int]int)
	if _, err := atOnce(100, 7, func(i int) error {
		mu.Lock()
		defer mu.Unlock()
		made[i]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if made[i] != 1 {
			t.Errorf("call %d was made %d times", i, made[i])
		}
	}
	broken := errors.New("broken")
	if _, err := atOnce(100, 7, func(int) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
