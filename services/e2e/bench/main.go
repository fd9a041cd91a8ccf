// Command bench measures the pipeline as it would run: each service, the
// broker, PostgreSQL and a receiver as processes of their own, on loopback and
// a disk with durable settings. It starts what it needs, on free ports, and
// leaves nothing behind.
//
// Services take their other settings from the environment, such as
// DELIVER_CONCURRENCY. The broker has their TIMER_SLACK too; PostgreSQL, receiver and
// publisher have not.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type config struct {
	Scenario []string `help:"Scenarios to run, separated by commas; all if none is given. ${scenarios}" json:"scenarios"`
	Runs     int      `default:"1" help:"How often to run each." json:"runs"`
	Scale    float64  `default:"1" help:"Multiplies the scenarios' own counts and times." json:"scale"`

	Events  int `help:"Events of a scenario. 0 is the scenario's own count, as for what follows." json:"events,omitempty"`
	Rate    int `help:"Events per second where a scenario publishes at a rate." json:"rate,omitempty"`
	Seconds int `help:"Length of a scenario at a rate." json:"seconds,omitempty"`
	Bytes   int `help:"Size of an event's body (${minBytes} to 262144)." json:"bytes,omitempty"`

	Sync     string        `default:"1s" help:"The broker's sync_interval: a duration, or always." json:"sync"`
	Atomic   bool          `help:"Publish in atomic batches where events are published in batches." json:"atomic,omitempty"`
	Schedule string        `default:"30s,5m,30m" help:"RETRY_SCHEDULE of the deliverer." json:"schedule"`
	Patience time.Duration `default:"45s" help:"What was not received when nothing has come for so long is lost." json:"patience"`
	Limit    time.Duration `default:"10m" help:"What was not received so long after the last publish is lost." json:"limit"`

	NATSConf   string `default:"nats.conf" help:"Configuration of the broker." json:"-"`
	Dir        string `help:"Where to put the data meanwhile. It must be on a real disk. The system's temporary directory if empty." json:"-"`
	Bin        string `help:"Directory of services that are built already; if empty, they are built." json:"-"`
	JSON       string `help:"File to write the results to." json:"-"`
	Profile    string `help:"Directory for profiles of each case: of each process three, of the processor, of allocations and of waiting; and plans of one in a hundred SQL statements (auto_explain), which cost some speed." json:"-"`
	Statements int    `help:"How many of the dearest SQL statements of a case to print, with pg_stat_statements; that costs some speed." json:"statements,omitempty"`
	Rows       int    `help:"Old deliveries of the scenarios history and replay." json:"rows,omitempty"`
	Waiting    int    `help:"Deliveries that wait in the scenario retries." json:"waiting,omitempty"`
}

// A command is what this program does: measure, or be one of the processes
// that are measured.
type command interface {
	Run(ctx context.Context) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	var cmd command = &config{}
	args := os.Args[1:]
	if len(args) > 0 {
		switch args[0] {
		case "broker":
			cmd, args = &brokerCmd{}, args[1:]
		case "receiver":
			cmd, args = &receiverCmd{}, args[1:]
		}
	}
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name+": "+s.about)
	}
	parser := kong.Must(cmd, kong.Name("bench"), kong.Description("Measure the pipeline on this machine."),
		kong.Vars{"scenarios": strings.Join(names, "; ") + ".", "minBytes": fmt.Sprint(minBytes)})
	_, err := parser.Parse(args)
	parser.FatalIfErrorf(err)
	if err := cmd.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// Validate says what is wrong with a flag. It is called by the flag parser.
func (c config) Validate() error {
	for _, name := range c.Scenario {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return fmt.Errorf("--scenario: there is no %q", name)
		}
	}
	switch {
	case c.Bytes != 0 && (c.Bytes < minBytes || c.Bytes > 262144):
		return fmt.Errorf("--bytes: must be %d to 262144, not %d", minBytes, c.Bytes)
	case c.Events < 0 || c.Rate < 0 || c.Seconds < 0 || c.Runs < 1 || c.Scale <= 0:
		return errors.New("counts must be positive")
	}
	return nil
}

// Run runs the scenarios and prints what came of them, also when one failed.
func (c config) Run(ctx context.Context) (err error) {
	begun := time.Now()
	l, err := openLab(ctx, c, os.Stderr)
	if err != nil {
		return err
	}
	defer func() {
		if len(l.results) > 0 {
			r := l.report(begun)
			r.print(os.Stdout)
			if c.JSON != "" {
				err = errors.Join(err, r.write(c.JSON))
			}
		}
		err = errors.Join(err, l.close())
	}()
	for l.run = 1; l.run <= c.Runs; l.run++ {
		for _, s := range scenarios {
			if len(c.Scenario) > 0 && !slices.Contains(c.Scenario, s.name) {
				continue
			}
			l.say("%s: %s", s.name, s.about)
			if err := s.run(ctx, l); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return l.checkLosses()
}

// checkLosses fails if anything was lost: that is no matter of speed.
func (l *lab) checkLosses() (err error) {
	for _, r := range l.results {
		if r.Lost > 0 {
			err = errors.Join(err, fmt.Errorf("%s, %s: %d of %d deliveries were not received in time", r.Scenario, r.Case, r.Lost, r.Expected))
		}
	}
	return err
}

// count is a number of a scenario: the one of a flag, or else its own, scaled.
func (c config) count(flag, own int) int {
	if flag > 0 {
		return flag
	}
	return max(1, int(float64(own)*c.Scale))
}

func (c config) seconds(own int) int { return c.count(c.Seconds, own) }

func (c config) bytes(own int) int {
	if c.Bytes > 0 {
		return c.Bytes
	}
	return own
}

func (c config) rate(own int) int {
	if c.Rate > 0 {
		return c.Rate
	}
	return own
}
