package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
)

// A point is a place where a service is killed, and how often an event that was
// there is POSTed again for it.
type point struct {
	name    string
	process string
	repeats int
	round   time.Duration // how long kills may follow each other until those before come again; 0: all is done before the next
	without string        // a process that could take the work off the one to be killed, and does not run meanwhile
	plot
}

// A plot is what is done before a kill, to have the process come to its point,
// and once it runs again. n numbers the kills. Each may be nil.
type plot struct {
	prepare func(ctx context.Context, r *run, n int) error
	lead    func(ctx context.Context, r *run, n int) error
	after   func(ctx context.Context, r *run, n int) error
}

// Below a lease, and below the ack wait, by what a kill and a start take.
const (
	leaseRound = lease - 3*time.Second
	ackRound   = streams.AckWait - 3*time.Second
)

// points are those of the table of faults.
func points() []point {
	return []point{
		{name: "views accepted", process: viewsName, plot: page, round: leaseRound},
		{name: "relay published", process: viewsName, plot: published(viaOutbox), without: webhooksName},
		{name: "fanout received", process: webhooksName, plot: published(viaStream), round: ackRound},
		{name: "fanout stored", process: webhooksName, plot: published(viaStream), round: ackRound},
		{name: "fanout published", process: webhooksName, plot: published(viaStream), round: ackRound},
		{name: "deliver claimed", process: deliverer1, plot: published(viaStream), round: leaseRound},
		{name: "deliver sent", process: deliverer1, plot: published(viaStream), round: leaseRound, repeats: 1},
		{name: "deliver answered", process: deliverer1, plot: published(viaStream), round: leaseRound, repeats: 1},
		{name: "deliver settled", process: deliverer1, plot: published(viaStream), round: leaseRound},
		{name: "create written", process: webhooksName, plot: creation(0)},
		{name: "create committed", process: webhooksName, plot: creation(1)},
		{name: "rotate written", process: webhooksName, plot: rotation(1)},
		{name: "rotate committed", process: webhooksName, plot: rotation(2)},
		{name: "delete written", process: webhooksName, plot: deletion(1)},
		{name: "delete committed", process: webhooksName, plot: deletion(0)},
		{name: "replay made", process: webhooksName, plot: midway},
		{name: "replay committed", process: webhooksName, plot: midway},
		{name: "recovery advanced", process: webhooksName, plot: renewed},
	}
}

// killAtPoints kills at the points, some side by side, and writes the table. The
// error says that a number of repeats was not as expected, or an invariant broken.
func (l *lab) killAtPoints(ctx context.Context) error {
	list := slices.DeleteFunc(points(), func(p point) bool { return l.cfg.Failpoint != "all" && l.cfg.Failpoint != p.name })
	if len(list) == 0 {
		return fmt.Errorf("--failpoint: there is no %q", l.cfg.Failpoint)
	}
	rows, errs := make([]string, len(list)), make([]error, len(list))
	jobs := make(chan int)
	var slots sync.WaitGroup
	for range min(l.cfg.Parallel, len(list)) {
		slots.Go(func() {
			for i := range jobs {
				rows[i], errs[i] = l.killed(ctx, list[i])
				fmt.Print(rows[i])
			}
		})
	}
	for i := len(list) - 1; i >= 0; i-- { // the last ones take longest
		jobs <- i
	}
	close(jobs)
	slots.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	table := "| fail-point | kills | POSTs | lost | repeats | expected of each |\n|---|---|---|---|---|---|\n" + strings.Join(rows, "")
	return errors.Join(errors.Join(errs...), l.writeTable("Fail-points", table))
}

// killed kills at a point, on a PostgreSQL of its own, and returns its row.
func (l *lab) killed(ctx context.Context, p point) (row string, err error) {
	if ctx.Err() != nil {
		return "", nil
	}
	s, err := l.openSlot(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	res, err := s.killAt(ctx, p, "point-"+strings.ReplaceAll(p.name, " ", "-"))
	row = fmt.Sprintf("| %s | %d | %d | %d | %d | %d |\n", p.name, l.cfg.Kills, res.Counts.Posts, res.Counts.Lost, res.Counts.Repeated, p.repeats)
	if err != nil {
		err = fmt.Errorf("%s: %w", p.name, err)
	}
	return row, err
}

// killAt kills at a point, an event each time.
func (s *slot) killAt(ctx context.Context, p point, name string) (res result, err error) {
	r := &run{dir: filepath.Join(s.dir, name)}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return res, fmt.Errorf("make directory: %w", err)
	}
	r.stack, err = s.open(ctx, r.dir, strings.ReplaceAll(name, "-", "_"), nil)
	defer func() {
		r.stack.close()
		if err == nil && !s.cfg.Keep {
			err = os.RemoveAll(r.dir)
		}
	}()
	if err != nil {
		return res, err
	}
	owner := uuid.Must(uuid.NewV7())
	t, err := newTarget(owner, steady, common, viewed)
	if err != nil {
		return res, err
	}
	broken, err := newTarget(owner, down, rare)
	if err != nil {
		return res, err
	}
	r.targets = []*target{t, broken}
	if err := r.openJournals(); err != nil {
		return res, err
	}
	if err := r.openReceiver(ctx, []uuid.UUID{owner}); err != nil {
		return res, err
	}
	if err := r.stack.procs[deliverer2].terminate(); err != nil { // what is there goes through the other
		return res, err
	}
	if err := r.watchFailpoint(p); err != nil {
		return res, err
	}
	for kills := 0; kills < s.cfg.Kills; {
		n, err := r.round(ctx, p, kills)
		if err != nil {
			return res, fmt.Errorf("after %d kills: %w (kept: %s)", kills+n, err, r.dir)
		}
		kills += n
	}
	r.receiver.close()
	if err := r.judge(ctx, &res, nil); err != nil {
		return res, err
	}
	if len(res.Violations) > 0 {
		return res, fmt.Errorf("%s: %s (kept: %s)", res.Violations[0].Invariant, res.Violations[0].Text, r.dir)
	}
	if want := p.repeats * s.cfg.Kills; res.Counts.Repeated != want {
		return res, fmt.Errorf("%d repeats, want %d (kept: %s)", res.Counts.Repeated, want, r.dir)
	}
	return res, nil
}

// failpointFile is where a stack's process looks for the point to be killed at.
func (s *stack) failpointFile() string { return filepath.Join(s.dir, "failpoint") }

// watchFailpoint has the point's process start anew, and from now on be killed
// wherever the file says.
func (r *run) watchFailpoint(p point) error {
	r.stack.armed = p.process
	proc := r.stack.procs[p.process]
	proc.kill()
	return proc.startReady()
}

// round kills, numbered from first, and waits until all is done.
func (r *run) round(ctx context.Context, p point, first int) (kills int, err error) {
	if p.without != "" {
		if err := r.stack.procs[p.without].terminate(); err != nil {
			return 0, err
		}
	}
	begun := time.Now()
	for kills == 0 || first+kills < r.stack.cfg.Kills && time.Since(begun) < p.round {
		if err := r.killOnce(ctx, p, first+kills); err != nil {
			return kills, err
		}
		kills++
	}
	if p.without != "" {
		if err := r.stack.procs[p.without].startReady(); err != nil {
			return kills, err
		}
	}
	return kills, r.awaitQuiet(ctx)
}

// awaitQuiet is awaitQuiet for all that was accepted so far.
func (r *run) awaitQuiet(ctx context.Context) error {
	accepted, err := r.acceptedEvents()
	if err != nil {
		return err
	}
	return r.stack.awaitQuiet(ctx, accepted, r.stack.cfg.Quiet)
}

// killOnce has the process be killed at the point, and starts it again.
func (r *run) killOnce(ctx context.Context, p point, n int) error {
	if p.prepare != nil {
		if err := p.prepare(ctx, r, n); err != nil {
			return err
		}
	}
	proc := r.stack.procs[p.process]
	line := check.Fault{Name: p.name, Cuts: p.process == deliverer1, From: time.Now()}
	victim := proc.current()
	victim.Expect()
	if err := writeWhole(r.stack.failpointFile(), p.name); err != nil {
		return err
	}
	if p.lead != nil {
		if err := p.lead(ctx, r, n); err != nil {
			return err
		}
	}
	select {
	case <-victim.Done():
	case <-time.After(startTime):
		return errors.New("the service was not killed")
	}
	if err := proc.startReady(); err != nil {
		return err
	}
	line.To = time.Now()
	r.faulted.Write(line)
	if p.after == nil {
		return nil
	}
	return p.after(ctx, r, n)
}

// writeWhole writes a file such that nobody sees half of it.
func writeWhole(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// openReceiver opens receiver and publisher for the run's targets.
func (r *run) openReceiver(ctx context.Context, owners []uuid.UUID) (err error) {
	if r.receiver, err = newReceiver(r.received, r.targets); err != nil {
		return err
	}
	r.begun = time.Now()
	r.api = &api{journal: r.changed, stack: r.stack, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}}
	r.publisher = &publisher{
		journal: r.published, pub: r.stack.pub, pool: r.stack.pool, views: r.stack.viewsURL, users: owners,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: publishers}},
	}
	return r.stack.register(ctx, r.receiver.url, owners, r.targets)
}
