package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
	"github.com/cardwire/cardwire/sql/pgserver"
)

// A report prints a line per seed as it ends, keeps the sum, and writes the file of --out.
type report struct {
	mu     sync.Mutex
	out    io.WriteCloser // nil: none
	begun  time.Time
	seeds  int
	failed int
	sum    check.Counts
	errs   []error
}

// machine is the first line of the file: where and with what a campaign ran.
type machine struct {
	Date       time.Time `json:"date"`
	Commit     string    `json:"commit"`
	Command    string    `json:"command"`
	Cores      int       `json:"cores"`
	Memory     string    `json:"memory"`
	Kernel     string    `json:"kernel"`
	Go         string    `json:"go"`
	PostgreSQL string    `json:"postgresql"`
}

func openReport(ctx context.Context, c config) (*report, error) {
	r := &report{begun: time.Now()}
	if c.Out == "" {
		return r, nil
	}
	f, err := os.OpenFile(c.Out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open result file: %w", err)
	}
	r.out = f
	return r, r.write(c.machine(ctx))
}

// machine describes this one.
func (c config) machine(ctx context.Context) machine {
	m := machine{
		Date: time.Now().UTC().Truncate(time.Second), Commit: said(ctx, "git", "describe", "--always", "--dirty"), Command: repeatBy(c),
		Cores: runtime.NumCPU(), Kernel: said(ctx, "uname", "-sr"), Go: runtime.Version(),
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		first, _, _ := strings.Cut(string(text), "\n")
		m.Memory = strings.TrimSpace(strings.TrimPrefix(first, "MemTotal:"))
	}
	if bin, err := pgserver.Find(ctx, pgserver.Options{}); err == nil {
		m.PostgreSQL = bin.Version
	}
	return m
}

// repeatBy is the command that repeats a campaign.
func repeatBy(c config) string {
	cmd := fmt.Sprintf("go run ./services/e2e/crashlab --seed %d --seeds %d --events %d --parallel %d", c.Seed, c.Seeds, c.Events, c.Parallel)
	if c.Fault != "" {
		cmd += fmt.Sprintf(" --fault %q", string(c.Fault))
	}
	switch {
	case c.Sabotage:
		cmd += " --sabotage"
		if c.Only != "" {
			cmd += fmt.Sprintf(" --only %q", c.Only)
		}
	case c.Failpoint != "":
		cmd = fmt.Sprintf("go run ./services/e2e/crashlab --failpoint %q --kills %d", c.Failpoint, c.Kills)
	case c.Recovery:
		cmd = fmt.Sprintf("go run ./services/e2e/crashlab --recovery --times %d --outage %s --parallel %d", c.Times, c.Outage, c.Parallel)
	}
	if c.Long {
		cmd += " --long"
	}
	return cmd
}

// said is what a command prints; empty if it fails.
func said(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func (r *report) write(line any) error {
	if r.out == nil {
		return nil
	}
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = r.out.Write(append(text, '\n'))
	return err
}

// shown is how many violations of a seed are printed.
const shown = 5

// add takes the result of a seed, or why there is none.
func (r *report) add(res result, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seeds++
	if err != nil {
		r.failed++
		r.errs = append(r.errs, fmt.Errorf("seed %d: %w", res.Seed, err))
		fmt.Printf("seed %d: could not be run: %v\n", res.Seed, err)
		return
	}
	c := res.Counts
	fmt.Printf("seed %d: refused %d, accepted %d, lost %d, repeated %d; %d deliveries, %d POSTs; recovered in %.1f s of %.1f s; %s\n",
		res.Seed, c.Refused, c.Accepted, c.Lost, c.Repeated, c.Deliveries, c.Posts, res.Recovered, res.Took, strings.Join(res.Faults, ", "))
	if len(res.Violations) > 0 {
		r.failed++
		for i, v := range res.Violations {
			if i == shown {
				fmt.Printf("    and %d more\n", len(res.Violations)-shown)
				break
			}
			fmt.Printf("    %s: %s\n", v.Invariant, v.Text)
		}
		fmt.Printf("    kept: %s\n    again: go run ./services/e2e/crashlab --seed %d --keep\n", res.Kept, res.Seed)
	}
	r.sum.Refused += c.Refused
	r.sum.Accepted += c.Accepted
	r.sum.Deliveries += c.Deliveries
	r.sum.Posts += c.Posts
	r.sum.Lost += c.Lost
	r.sum.Repeated += c.Repeated
	r.errs = append(r.errs, r.write(res))
}

// end prints the sum. The error says that something was wrong.
func (r *report) end() error {
	s := r.sum
	fmt.Printf("%d seeds, %d failed: refused %d, accepted %d, lost %d, repeated %d; %d deliveries, %d POSTs; %.0f s\n",
		r.seeds, r.failed, s.Refused, s.Accepted, s.Lost, s.Repeated, s.Deliveries, s.Posts, time.Since(r.begun).Seconds())
	err := r.write(struct {
		Seeds  int          `json:"seeds"`
		Failed int          `json:"failed"`
		Sum    check.Counts `json:"sum"`
		Took   float64      `json:"took_s"`
	}{r.seeds, r.failed, s, time.Since(r.begun).Seconds()})
	if r.out != nil {
		err = errors.Join(err, r.out.Close())
	}
	if r.failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d seeds failed", r.failed, r.seeds))
	}
	return errors.Join(append(r.errs, err)...)
}
