package view

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reads counts how often each page was read.
type reads struct {
	mu    sync.Mutex
	n     map[string]int
	takes time.Duration
	err   error
}

func (r *reads) read(_ context.Context, key pageKey) (*page, error) {
	time.Sleep(r.takes) // in a bubble of synctest
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n[key.username]++
	if key.username == "nobody" || r.err != nil {
		return nil, r.err
	}
	return &page{key: key}, nil
}

func newTestCache(t *testing.T, size int, r *reads) *cache {
	t.Helper()
	r.n = make(map[string]int)
	c, err := newCache(size, 5*time.Second, r.read)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t *testing.T, c *cache, username string) *page {
	t.Helper()
	p, err := c.get(t.Context(), pageKey{username: username})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCacheReadsAPageAgainOnceItIsOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r reads
		c := newTestCache(t, 10, &r)
		get(t, c, "alice")
		time.Sleep(5*time.Second - time.Nanosecond)
		if get(t, c, "alice"); r.n["alice"] != 1 {
			t.Errorf("read %d times within the TTL, want 1", r.n["alice"])
		}
		time.Sleep(time.Nanosecond)
		if get(t, c, "alice"); r.n["alice"] != 2 {
			t.Errorf("read %d times after the TTL, want 2", r.n["alice"])
		}
	})
}

func TestCacheKeepsThatAPageIsMissing(t *testing.T) {
	t.Parallel()
	var r reads
	c := newTestCache(t, 10, &r)
	for range 3 {
		if p := get(t, c, "nobody"); p != nil {
			t.Fatalf("page %+v of nobody", p)
		}
	}
	if r.n["nobody"] != 1 {
		t.Errorf("read %d times, want 1", r.n["nobody"])
	}
}

func TestCacheDoesNotKeepErrors(t *testing.T) {
	t.Parallel()
	r := reads{err: errors.New("database away")}
	c := newTestCache(t, 10, &r)
	if _, err := c.get(t.Context(), pageKey{username: "alice"}); !errors.Is(err, r.err) {
		t.Fatalf("error %v, want %v", err, r.err)
	}
	r.err = nil
	if p := get(t, c, "alice"); p == nil {
		t.Error("no page after the database is back")
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	var r reads
	c := newTestCache(t, 10, &r)
	for i := range 1000 {
		get(t, c, strconv.Itoa(i))
	}
	if n := c.entries.Len(); n != 10 {
		t.Errorf("%d entries, want 10", n)
	}
}

func TestCacheReadsAPageOnceForABurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := reads{takes: time.Millisecond}
		c := newTestCache(t, 10, &r)
		// The one who begins the reading leaves before it ends.
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if p, err := c.get(ctx, pageKey{username: "alice"}); err != nil || p == nil {
					t.Errorf("get: %v, %v", p, err)
				}
			})
		}
		cancel()
		wg.Wait()
		if r.n["alice"] != 1 {
			t.Errorf("read %d times, want 1", r.n["alice"])
		}
	})
}
