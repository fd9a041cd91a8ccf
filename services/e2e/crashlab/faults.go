package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
)

// A fault is something that happens to a part of the stack and ends again.
type fault struct {
	name  string
	parts []string // what it is done to: nothing else is done to it meanwhile
	cuts  bool     // can keep a deliverer from settling: see check.Fault
	does  func(ctx context.Context, s *stack, r *run, rnd *rand.Rand) error
}

// errSkipped says that a fault could not be done now.
var errSkipped = errors.New("skipped")

// faults is the table of what can happen.
func faults(long bool) (all []fault) {
	for _, name := range []string{viewsName, webhooksName, deliverer1, deliverer2} {
		cuts := strings.HasPrefix(name, "deliverer")
		all = append(all, ofProcess(name, cuts)...)
	}
	all = append(all, ofProcess(brokerName, false)...)
	all = append(all,
		fault{deliverer1 + " stopped past its lease", []string{deliverer1}, true, stopped(deliverer1, lease+time.Second)},
		fault{"broker down for long", []string{brokerName}, false, brokerDown(long)},
		fault{"broker's disk full", []string{brokerName}, false, brokerDiskFull},
		fault{"broker's store wiped", []string{viewsName, webhooksName, brokerName}, false, wiped},
		fault{"stream DELIVERIES deleted", []string{brokerName}, false, deleteDeliveries},
		fault{"stream EVENTS deleted", []string{viewsName, webhooksName, brokerName}, false, deleteEvents},
		fault{"consumer deleted", []string{brokerName}, false, deleteConsumer},
		fault{"broker's connections cut", []string{brokerName}, false, cut(brokerProxy)},
		fault{"broker slow", []string{brokerName}, false, delayed(brokerProxy)},
		fault{"broker half-open", []string{brokerName}, false, frozen(brokerProxy)},
		fault{"postgres' connections cut", []string{postgresName}, true, cut(sqlProxy)},
		fault{"postgres slow", []string{postgresName}, true, delayed(sqlProxy)},
		fault{"postgres half-open", []string{postgresName}, true, frozen(sqlProxy)},
		fault{"postgres reset at commit", []string{postgresName}, true, torn},
		fault{"postgres stopped at once", []string{postgresName}, true, postgresStopped},
		fault{"postgres' disk full", []string{postgresName}, true, postgresDiskFull},
		fault{"postgres without connections", []string{postgresName}, true, exhausted},
		fault{"table deliveries locked", []string{postgresName}, true, locked("deliveries")},
		fault{"table attempts locked", []string{postgresName}, true, locked("attempts")},
		fault{"table outbox locked", []string{postgresName}, true, locked("outbox")},
	)
	return all
}

// ofProcess are the faults that any process can have.
func ofProcess(name string, cuts bool) []fault {
	parts := []string{name}
	return []fault{
		{name + " killed", parts, cuts, func(_ context.Context, s *stack, _ *run, rnd *rand.Rand) error {
			for range 1 + rnd.IntN(3) {
				s.procs[name].kill()
				pause(rnd, 0, time.Second)
				if err := s.procs[name].startReady(); err != nil {
					return err
				}
				pause(rnd, 0, time.Second)
			}
			return nil
		}},
		{name + " terminated", parts, false, func(_ context.Context, s *stack, r *run, rnd *rand.Rand) error {
			begun := time.Now()
			err := s.procs[name].terminate()
			if now := time.Now(); cuts && now.Sub(begun) >= shutdownTimeout { // what had begun was cut off
				r.faulted.Write(check.Fault{Name: name + " did not finish", Cuts: true, From: begun, To: now})
			}
			pause(rnd, 0, time.Second)
			return errors.Join(err, s.procs[name].startReady())
		}},
		{name + " stopped", parts, cuts, stopped(name, 2*time.Second)},
	}
}

func stopped(name string, most time.Duration) func(context.Context, *stack, *run, *rand.Rand) error {
	return func(_ context.Context, s *stack, _ *run, rnd *rand.Rand) error {
		s.procs[name].signal(syscall.SIGSTOP)
		pause(rnd, most/2, most)
		if most > lease {
			pause(rnd, most/2, most/2+time.Second)
		}
		s.procs[name].signal(syscall.SIGCONT)
		return nil
	}
}

// pause waits for a random time from one duration to another.
func pause(rnd *rand.Rand, from, to time.Duration) {
	time.Sleep(from + time.Duration(rnd.Int64N(int64(to-from)+1)))
}

func brokerDown(long bool) func(context.Context, *stack, *run, *rand.Rand) error {
	return func(_ context.Context, s *stack, _ *run, rnd *rand.Rand) error {
		s.procs[brokerName].kill()
		if long {
			pause(rnd, 3*time.Minute, 3*time.Minute)
		} else {
			pause(rnd, 5*time.Second, 8*time.Second)
		}
		return s.procs[brokerName].startReady()
	}
}

// caughtUp has nothing be published and waits until fan-out has all that was
// accepted, as a lone broker that loses its store loses what is nowhere else.
// The caller has publishing go on with resume.
func (s *stack) caughtUp(ctx context.Context, r *run) (resume func(), err error) {
	r.publisher.paused.Lock()
	end := time.Now().Add(5 * time.Second)
	for time.Now().Before(end) {
		var outbox int
		err := s.admin.QueryRow(ctx, `SELECT count(*) FROM outbox`).Scan(&outbox)
		if err == nil && outbox == 0 {
			if n, err := s.ahead(ctx); err == nil && n == 0 {
				return r.publisher.paused.Unlock, nil
			}
		}
		time.Sleep(quietPoll)
	}
	r.publisher.paused.Unlock()
	return nil, fmt.Errorf("%w: fan-out is behind", errSkipped)
}

func wiped(ctx context.Context, s *stack, r *run, rnd *rand.Rand) error {
	resume, err := s.caughtUp(ctx, r)
	if err != nil {
		return err
	}
	s.procs[brokerName].kill()
	resume()
	if err := os.RemoveAll(s.store()); err != nil {
		return err
	}
	pause(rnd, 0, 2*time.Second)
	return s.procs[brokerName].startReady()
}

func deleteEvents(ctx context.Context, s *stack, r *run, _ *rand.Rand) error {
	resume, err := s.caughtUp(ctx, r)
	if err != nil {
		return err
	}
	defer resume()
	return s.delete(ctx, func() error { return s.js.DeleteStream(ctx, streams.Events) })
}

func deleteDeliveries(ctx context.Context, s *stack, _ *run, _ *rand.Rand) error {
	return s.delete(ctx, func() error { return s.js.DeleteStream(ctx, streams.Deliveries) })
}

func deleteConsumer(ctx context.Context, s *stack, _ *run, rnd *rand.Rand) error {
	all := [][2]string{
		{streams.Events, streams.FanOut},
		{streams.Events, streams.CardViews},
		{streams.Deliveries, streams.First},
		{streams.Deliveries, streams.Again},
		{streams.Deliveries, streams.WaitConsumer(200 * time.Millisecond)},
	}
	c := all[rnd.IntN(len(all))]
	return s.delete(ctx, func() error { return s.js.DeleteConsumer(ctx, c[0], c[1]) })
}

// brokerBack bounds the wait for a broker that another fault has taken away.
const brokerBack = 30 * time.Second

// delete deletes something of the broker, once that is there.
func (s *stack) delete(ctx context.Context, do func() error) (err error) {
	for end := time.Now().Add(brokerBack); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(quietPoll) {
		err = do()
		if err == nil || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil // by what was lost, or by the answer to the first try
		}
	}
	return fmt.Errorf("%w: %w", errSkipped, err)
}

func brokerProxy(s *stack) *proxy { return s.broker }
func sqlProxy(s *stack) *proxy    { return s.sql }

// cut closes all connections several times.
func cut(of func(*stack) *proxy) func(context.Context, *stack, *run, *rand.Rand) error {
	return func(_ context.Context, s *stack, _ *run, rnd *rand.Rand) error {
		for range 1 + rnd.IntN(4) {
			of(s).cut()
			pause(rnd, 0, 500*time.Millisecond)
		}
		return nil
	}
}

func delayed(of func(*stack) *proxy) func(context.Context, *stack, *run, *rand.Rand) error {
	return func(_ context.Context, s *stack, _ *run, rnd *rand.Rand) error {
		delay := time.Duration(10+rnd.IntN(90)) * time.Millisecond
		of(s).set(func(p *proxy) { p.delay = delay })
		pause(rnd, time.Second, 3*time.Second)
		of(s).set(func(p *proxy) { p.delay = 0 })
		return nil
	}
}

// frozen lets nothing through, and then cuts what nobody has given up.
func frozen(of func(*stack) *proxy) func(context.Context, *stack, *run, *rand.Rand) error {
	return func(_ context.Context, s *stack, _ *run, rnd *rand.Rand) error {
		of(s).set(func(p *proxy) { p.frozen = true })
		pause(rnd, time.Second, 3*time.Second)
		if rnd.IntN(2) == 0 {
			of(s).cut()
		}
		of(s).set(func(p *proxy) { p.frozen = false })
		return nil
	}
}

func torn(_ context.Context, s *stack, _ *run, rnd *rand.Rand) error {
	for range 3 {
		s.sql.set(func(p *proxy) { p.tearing = true })
		pause(rnd, 200*time.Millisecond, time.Second)
		s.sql.set(func(p *proxy) { p.tearing = false })
		pause(rnd, 200*time.Millisecond, 500*time.Millisecond)
	}
	return nil
}

func postgresStopped(ctx context.Context, s *stack, _ *run, rnd *rand.Rand) error {
	if err := s.postgres.StopNow(); err != nil {
		return err
	}
	pause(rnd, 0, 2*time.Second)
	return s.postgres.Restart(ctx)
}

// exhausted cuts the services' connections and takes all there are.
func exhausted(ctx context.Context, s *stack, _ *run, rnd *rand.Rand) error {
	var taken []interface{ Close(context.Context) error }
	defer func() {
		for _, c := range taken {
			_ = c.Close(ctx)
		}
	}()
	s.sql.cut()
	end := time.Now().Add(time.Second + time.Duration(rnd.Int64N(int64(2*time.Second))))
	for time.Now().Before(end) {
		c, err := s.connectDirectly(ctx)
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		taken = append(taken, c)
	}
	return nil
}

func locked(table string) func(context.Context, *stack, *run, *rand.Rand) error {
	return func(ctx context.Context, s *stack, _ *run, rnd *rand.Rand) error {
		c, err := s.connectDirectly(ctx)
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		if _, err := c.Exec(ctx, "BEGIN; LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE"); err != nil {
			return err
		}
		pause(rnd, time.Second, 4*time.Second)
		return nil
	}
}
