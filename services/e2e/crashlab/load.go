package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
)

// load publishes and does faults meanwhile. It returns when both have ended.
func (r *run) load(ctx context.Context, rnd *rand.Rand) (names []string, wrong []error) {
	length := time.Duration(r.stack.cfg.Events) * time.Second / perSecond
	begun := time.Now()
	for _, t := range r.targets {
		at := begun.Add(time.Duration(rnd.Int64N(int64(length))))
		t.to.Store(at.Add(2 * time.Second).UnixNano())
		t.from.Store(at.UnixNano())
	}
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, f := range drawn(rnd, r.stack.cfg) {
		at := time.Duration(rnd.Int64N(int64(length)))
		own := rand.New(rand.NewPCG(rnd.Uint64(), 2))
		work.Go(func() {
			time.Sleep(time.Until(begun.Add(at)))
			err := r.fault(ctx, f, own)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, errSkipped):
				names = append(names, f.name+" (skipped)")
				return
			case err != nil:
				wrong = append(wrong, fmt.Errorf("%s: %w", f.name, err))
			}
			names = append(names, f.name)
		})
	}
	r.publisher.run(ctx, rand.New(rand.NewPCG(uint64(r.seed), 3)), r.stack.cfg.Events, perSecond)
	work.Wait()
	for _, t := range r.targets {
		t.healed.Store(true)
	}
	return names, wrong
}

// drawn are the faults of a seed, and in two of three what users do meanwhile.
func drawn(rnd *rand.Rand, cfg config) (list []fault) {
	table, users := faults(cfg.Long), changes()
	for range 1 + rnd.IntN(maxFaults) {
		f := table[rnd.IntN(len(table))]
		if cfg.Fault != "" {
			f = cfg.Fault.find(slices.Concat(table, users))
		}
		list = append(list, f)
	}
	if n := rnd.IntN(len(users) + 1); n < len(users) {
		list = append(list, users[n])
	}
	if n := rnd.IntN(len(users) + 2); n < len(users) {
		list = append(list, users[n])
	}
	return list
}

// fault does a fault, while no other is done to the same parts, and writes it down.
func (r *run) fault(ctx context.Context, f fault, rnd *rand.Rand) error {
	for _, part := range f.parts { // in the same order everywhere
		r.stack.busy[part].Lock()
		defer r.stack.busy[part].Unlock()
	}
	line := check.Fault{Name: f.name, Cuts: f.cuts, From: time.Now()}
	err := f.does(ctx, r.stack, r, rnd)
	line.To = time.Now()
	r.faulted.Write(line)
	return err
}
