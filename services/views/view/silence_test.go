package view

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestASilentStreamIsAskedOnceAPause(t *testing.T) {
	t.Parallel()
	var s silence
	at := time.Unix(1_000, 0)
	asks := func(what string, now time.Time, want bool) {
		t.Helper()
		if got := s.ask(now); got != want {
			t.Errorf("%s: asked is %t, want %t", what, got, want)
		}
	}
	asks("no publish yet", at, true)
	s.answered(at, errors.New("stream full"))
	asks("after an answer that refuses", at, true)
	s.answered(at, context.DeadlineExceeded)
	asks("after a publish without an answer", at, false)
	asks("just before the pause ends", at.Add(silentPause-1), false)
	at = at.Add(silentPause)
	asks("the first after the pause", at, true)
	asks("the others after the pause, as the first has no answer yet", at, false)
	s.answered(at, nil)
	asks("once it answers", at, true)
}
