// Command crashlab runs the pipeline as real processes, does to them by seed
// what can happen, and has a checker judge what came of it: nothing accepted is
// lost, each POST is logged, repeats have a reason. It starts what it needs, on
// free ports of loopback, and leaves nothing behind but what failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type config struct {
	Seeds     int           `default:"1" help:"How many seeds to run."`
	Seed      int64         `default:"1" help:"The first of them."`
	Events    int           `default:"900" help:"Events of a seed; each makes three to four deliveries."`
	Parallel  int           `default:"4" help:"Seeds run side by side, each with a PostgreSQL and a broker of its own. Most of a seed is waiting for leases and ack waits."`
	Fault     faultName     `help:"Do only this fault: a part of its name."`
	Quiet     time.Duration `default:"2m" help:"How long all may take to be done once the faults have ended: an ack wait, a lease, and a circuit that was opened a few times. What is not is a violation."`
	Long      bool          `help:"A broker that is down for long is so for 3 minutes, not seconds."`
	Keep      bool          `help:"Keep the files of all seeds, not of those alone that failed."`
	Sabotage  bool          `help:"Run builds in which something is done wrong on purpose, each until the checker objects, at most for --seeds seeds."`
	Only      string        `help:"Of the sabotages do this one alone."`
	Failpoint string        `help:"Kill a service exactly at this place, again and again; 'all' is each of them in turn."`
	Kills     int           `default:"100" help:"How often to kill at a fail-point."`
	Recovery  bool          `help:"Measure how long recovery takes after each fault that has a time to be over in."`
	Times     int           `default:"20" help:"How often to measure each."`
	Outage    time.Duration `default:"5m" help:"How long the broker is down where that is for long."`
	Table     string        `help:"File to write the table of sabotages, fail-points or recoveries to."`

	Out string `help:"File to append the results to, as JSON lines; the first line tells of the machine."`

	NATSConf string `default:"nats.conf" help:"Configuration of the broker."`
	Dir      string `help:"Where to put the files. The system's temporary directory if empty."`
	Bin      string `help:"Directory of services that are built already; if empty, they are built."`
}

// A faultName is a part of a fault's name; empty is any.
type faultName string

func (n faultName) find(table []fault) fault {
	for _, f := range table {
		if strings.Contains(f.name, string(n)) {
			return f
		}
	}
	return fault{}
}

// Validate says what is wrong with the flag. It is called by the flag parser.
func (n faultName) Validate() error {
	measured := func(b breakdown) bool { return strings.Contains(b.name, string(n)) }
	if n.find(slices.Concat(faults(false), changes())).name == "" && !slices.ContainsFunc(breakdowns(0), measured) {
		return fmt.Errorf("--fault: there is none with %q in its name", string(n))
	}
	return nil
}

// Validate says what is wrong with a flag. It is called by the flag parser.
func (c config) Validate() error {
	if c.Seeds < 1 || c.Events < 1 || c.Parallel < 1 || c.Times < 1 {
		return errors.New("counts must be positive")
	}
	return nil
}

// A command is what this program does: run seeds, or be the broker.
type command interface {
	Run(ctx context.Context) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	var cmd command = &config{}
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "broker" {
		cmd, args = &brokerCmd{}, args[1:]
	}
	parser := kong.Must(cmd, kong.Name("crashlab"), kong.Description("Do to the pipeline what can happen, and check what came of it."))
	_, err := parser.Parse(args)
	parser.FatalIfErrorf(err)
	if err := cmd.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "crashlab:", err)
		os.Exit(1)
	}
}

// Run runs the seeds, prints a line for each and a sum, and fails if anything is wrong.
func (c config) Run(ctx context.Context) error {
	conf, err := filepath.Abs(c.NATSConf)
	if err != nil {
		return err
	}
	c.NATSConf = conf
	tags := ""
	if c.Sabotage || c.Failpoint != "" {
		tags = "failpoints"
	}
	l, err := openLab(ctx, c, tags)
	if err != nil {
		return err
	}
	switch {
	case c.Sabotage:
		return errors.Join(l.sabotage(ctx), l.close())
	case c.Failpoint != "":
		return errors.Join(l.killAtPoints(ctx), l.close())
	case c.Recovery:
		return errors.Join(l.recovery(ctx), l.close())
	}
	rep, err := openReport(ctx, c)
	if err != nil {
		return errors.Join(err, l.close())
	}
	err = l.campaign(ctx, nil, func(res result, err error) bool { rep.add(res, err); return true })
	return errors.Join(err, rep.end(), l.close())
}

// campaign runs the seeds, some side by side, with settings of the services.
// done hears of each, one call at a time perhaps beside another; if it returns
// false, no more are begun.
func (l *lab) campaign(ctx context.Context, env []string, done func(result, error) bool) error {
	begin, stop := context.WithCancel(ctx)
	defer stop()
	seeds := make(chan int64)
	var slots sync.WaitGroup
	errs := make(chan error, l.cfg.Parallel)
	for range min(l.cfg.Parallel, l.cfg.Seeds) {
		slots.Go(func() {
			errs <- l.work(ctx, seeds, env, func(res result, err error) {
				if !done(res, err) {
					stop()
				}
			})
		})
	}
	go func() {
		defer close(seeds)
		for i := range l.cfg.Seeds {
			select {
			case seeds <- l.cfg.Seed + int64(i):
			case <-begin.Done():
				return
			}
		}
	}()
	slots.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return errors.Join(all, context.Cause(ctx))
}

// work runs seeds in a slot.
func (l *lab) work(ctx context.Context, seeds <-chan int64, env []string, done func(result, error)) (err error) {
	s, err := l.openSlot(ctx)
	if err != nil {
		for range seeds { // the others go on
		}
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for seed := range seeds {
		res, err := s.runSeed(ctx, seed, env)
		if ctx.Err() != nil {
			return nil
		}
		done(res, err)
	}
	return nil
}
