package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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
	via     string        // of the event that leads there
	round   time.Duration // how long kills may follow each other until those before come again
	calm    bool          // what was there is finished before the next kill, or it would die of the same again
	without string        // a process that could take the work off the one to be killed, and does not run meanwhile
}

// Below a lease, and below the ack wait, by what a kill and a start take.
const (
	leaseRound = lease - 3*time.Second
	ackRound   = streams.AckWait - 3*time.Second
)

// points are those of the table of faults.
var points = []point{
	{name: "views accepted", process: viewsName, via: viaPage, round: leaseRound},
	{name: "relay published", process: viewsName, via: viaOutbox, round: ackRound, calm: true, without: webhooksName},
	{name: "fanout received", process: webhooksName, via: viaStream, round: ackRound},
	{name: "fanout stored", process: webhooksName, via: viaStream, round: ackRound},
	{name: "fanout published", process: webhooksName, via: viaStream, round: ackRound},
	{name: "deliver claimed", process: deliverer1, via: viaStream, round: leaseRound},
	{name: "deliver sent", process: deliverer1, via: viaStream, round: leaseRound, repeats: 1},
	{name: "deliver answered", process: deliverer1, via: viaStream, round: leaseRound, repeats: 1},
	{name: "deliver settled", process: deliverer1, via: viaStream, round: leaseRound},
}

// killAtPoints kills at the points, and writes the table. The error says that
// a number of repeats was not as expected, or an invariant broken.
func (l *lab) killAtPoints(ctx context.Context) (err error) {
	s, err := l.openSlot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.postgres.Close()) }()
	table := "| fail-point | kills | POSTs | lost | repeats | expected of each |\n|---|---|---|---|---|---|\n"
	found := false
	for i, p := range points {
		if l.cfg.Failpoint != "all" && l.cfg.Failpoint != p.name {
			continue
		}
		found = true
		res, wrong := s.killAt(ctx, p, fmt.Sprintf("point%d", i))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		row := fmt.Sprintf("| %s | %d | %d | %d | %d | %d |\n", p.name, l.cfg.Kills, res.Counts.Posts, res.Counts.Lost, res.Counts.Repeated, p.repeats)
		fmt.Print(row)
		table += row
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", p.name, wrong))
		}
	}
	if !found {
		return fmt.Errorf("--failpoint: there is no %q", l.cfg.Failpoint)
	}
	return errors.Join(err, l.writeTable("Fail-points", table))
}

// killAt kills at a point, an event each time.
func (s *slot) killAt(ctx context.Context, p point, name string) (res result, err error) {
	r := &run{dir: filepath.Join(s.dir, name)}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return res, fmt.Errorf("make directory: %w", err)
	}
	r.stack, err = s.open(ctx, r.dir, name, nil)
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
	r.targets = []*target{t}
	if err := r.openJournals(); err != nil {
		return res, err
	}
	if err := r.openReceiver(ctx, []uuid.UUID{owner}); err != nil {
		return res, err
	}
	if err := r.stack.procs[deliverer2].terminate(); err != nil { // what is there goes through the other
		return res, err
	}
	for kills := 0; kills < s.cfg.Kills; {
		n, err := r.round(ctx, p, s.cfg.Kills-kills)
		if err != nil {
			return res, fmt.Errorf("after %d kills: %w", kills+n, err)
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

// round kills up to most times, and waits until all is done.
func (r *run) round(ctx context.Context, p point, most int) (kills int, err error) {
	proc := r.stack.procs[p.process]
	if p.without != "" {
		if err := r.stack.procs[p.without].terminate(); err != nil {
			return 0, err
		}
	}
	if err := r.arm(p, p.process); err != nil {
		return 0, err
	}
	begun := time.Now()
	for kills < most && time.Since(begun) < p.round {
		line := check.Fault{Name: p.name, Cuts: p.process == deliverer1, From: time.Now()}
		victim := proc.current()
		victim.Expect()
		if p.via == viaPage {
			r.publisher.view(ctx, kills)
		} else {
			r.publisher.publish(ctx, r.publisher.users[0], common, p.via)
		}
		select {
		case <-victim.Done():
		case <-time.After(startTime):
			return kills, errors.New("the service was not killed")
		}
		kills++
		if p.calm {
			break
		}
		if err := proc.startReady(); err != nil {
			return kills, err
		}
		line.To = time.Now()
		r.faulted.Write(line)
	}
	if p.calm {
		r.stack.armed = ""
		err = proc.startReady()
	} else {
		proc.current().Expect()
		err = r.arm(p, "")
	}
	if err != nil {
		return kills, err
	}
	if p.without != "" {
		if err := r.stack.procs[p.without].startReady(); err != nil {
			return kills, err
		}
	}
	accepted, err := r.acceptedEvents()
	if err != nil {
		return kills, err
	}
	return kills, r.stack.awaitQuiet(ctx, accepted, r.stack.cfg.Quiet)
}

// arm has the point's process start anew, to be killed there if it is armed.
func (r *run) arm(p point, armed string) error {
	r.stack.armed, r.stack.point = armed, p.name
	proc := r.stack.procs[p.process]
	proc.kill()
	return proc.startReady()
}

// openReceiver opens receiver and publisher for the run's targets.
func (r *run) openReceiver(ctx context.Context, owners []uuid.UUID) (err error) {
	if r.receiver, err = newReceiver(r.received, r.targets); err != nil {
		return err
	}
	r.publisher = &publisher{
		journal: r.published, pub: r.stack.pub, pool: r.stack.pool, views: r.stack.viewsURL, users: owners,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: publishers}},
	}
	return r.stack.register(ctx, r.receiver.url, owners, r.targets)
}
