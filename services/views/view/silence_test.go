package view

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestSilence(t *testing.T) {
	t.Parallel()
	late := fmt.Errorf("publish: %w", context.DeadlineExceeded)
	at := time.Unix(1_000_000, 0)
	var s silence
	for _, step := range []struct {
		name  string
		after time.Duration
		may   bool
		tried error // what came of it, if it was tried
	}{
		{"at first the broker is asked", 0, true, nil},
		{"an answer: it is asked again", 0, true, errors.New("full")},
		{"a refusal is an answer", 0, true, late},
		{"no answer: it is left alone", 0, false, nil},
		{"and a moment later too", silentFor - 1, false, nil},
		{"after a while one tries", silentFor, true, late},
		{"in vain: it is left alone again", 2*silentFor - 1, false, nil},
		{"the next one tries", 2 * silentFor, true, nil},
		{"an answer ends it", 2 * silentFor, true, nil},
	} {
		now := at.Add(step.after)
		if may := s.mayTry(now); may != step.may {
			t.Fatalf("%s: may try is %t", step.name, may)
		}
		if step.may {
			s.tried(now, step.tried)
		}
	}
	s.tried(at, late)
	if now := at.Add(silentFor); !s.mayTry(now) || s.mayTry(now) {
		t.Error("of two that come when the time is over not exactly one may try")
	}
}

// A broker that takes the connection and then says nothing more costs one page
// its PUBLISH_TIMEOUT, and the next ones nothing.
func TestAFrozenBrokerCostsOnePageItsTimeout(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutStream(t, pgtest.New(t))
	// Who subscribes and never answers stands for a stream that is frozen.
	if _, err := w.stream.Conn().SubscribeSync("events.>"); err != nil {
		t.Fatal(err)
	}
	if err := w.stream.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{"", errBrokerSilent.Error()} {
		if n > 0 {
			if w.silence.until.Load() == 0 {
				t.Fatal("a publish without an answer in time is not remembered")
			}
			w.silence.until.Store(time.Now().Add(time.Hour).UnixNano()) // however long the next view takes to come
		}
		if answer := w.do("GET", "/api/u/alice"); answer.Code != 200 {
			t.Fatalf("status %d: %s", answer.Code, answer.Body)
		}
		line := w.logs.lines(t, "view accepted")[n]
		if got := line["publish_error"].(string); line["via"] != viaOutbox || (got == errBrokerSilent.Error()) != (want != "") {
			t.Errorf("view %d: %v", n+1, line)
		}
	}
}
