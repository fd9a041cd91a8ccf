package view

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// silentFor is how long views go straight to the outbox after a publish that
// the broker did not answer in time, and how often one of them tries whether it
// does again. The client notices a silent broker by its pings, after up to 10 s; until
// then each page would wait for PUBLISH_TIMEOUT.
const silentFor = time.Second

// errBrokerSilent stands for a publish that was not tried, as the one before got
// no answer in time.
var errBrokerSilent = errors.New("broker does not answer in time")

// A silence remembers that the broker is there but does not answer. The zero
// value is none. It is safe for concurrent use.
type silence struct {
	until atomic.Int64 // Unix time in ns; 0 is none
}

// mayTry says whether to publish. While the broker is silent, one in silentFor may.
func (s *silence) mayTry(now time.Time) bool {
	until := s.until.Load()
	switch {
	case until == 0:
		return true
	case now.UnixNano() < until:
		return false
	default: // of those who come now, one
		return s.until.CompareAndSwap(until, now.Add(silentFor).UnixNano())
	}
}

// tried notes what came of a publish: silence begins or goes on if it got no
// answer in time, and any answer ends it.
func (s *silence) tried(now time.Time, err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		s.until.Store(now.Add(silentFor).UnixNano())
		return
	}
	s.until.Store(0)
}
