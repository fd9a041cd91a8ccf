package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/services/internal/replays"
)

const (
	// watchEvery is how often a replay that is watched is looked at.
	watchEvery = 500 * time.Millisecond
	// barWidth is of the bar alone, in characters; a line stays below 80.
	barWidth = 24
)

type watchReplayCommand struct {
	ID   uuid.UUID `arg:"" help:"Id of the replay."`
	JSON bool      `name:"json" help:"Print JSON, one object for each look."`
	database
}

// Run follows it.
func (c watchReplayCommand) Run() error {
	ctx, pool, closeAll, err := c.open()
	if err != nil {
		return err
	}
	defer closeAll()
	return watch(ctx, pool, c.ID, c.JSON)
}

// watch follows a replay until it has ended or somebody ends the watching, which
// it goes on without.
func watch(ctx context.Context, pool *pgxpool.Pool, id uuid.UUID, asJSON bool) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	b := bar{out: os.Stdout, terminal: isTerminal(os.Stdout)}
	for {
		r, err := replays.Store{DB: pool}.Get(ctx, nil, id)
		switch {
		case ctx.Err() != nil: // said below
		case err != nil:
			return missing(err)
		case asJSON:
			if err := printJSON(r); err != nil {
				return err
			}
		default:
			b.show(r, time.Now())
		}
		if ctx.Err() == nil && r.FinishedAt != nil {
			if !asJSON {
				b.end()
				note("Replay %s is %s: %s of %s made.", r.ID, r.State, deliveryCount(r.Made), eventCount(&r.Done))
			}
			return nil
		}
		select {
		case <-ctx.Done():
			b.end()
			note("The replay goes on without being watched. Watch it again with: cardwire replay watch %s", id)
			return nil
		case <-tick.C:
		}
	}
}

// A bar shows how far a replay is: on a terminal in one line that changes, else in a
// line for each change.
type bar struct {
	out      io.Writer
	terminal bool
	shown    string
	first    replays.Replay // the first look since it last ran
	since    time.Time
}

// show shows one look at a replay.
func (b *bar) show(r replays.Replay, now time.Time) {
	if b.since.IsZero() || r.State != b.first.State {
		b.first, b.since = r, now
	}
	line := b.line(r, now)
	switch {
	case b.terminal:
		fmt.Fprintf(b.out, "\r%s\x1b[K", line)
	case line != b.shown:
		fmt.Fprintln(b.out, line)
	}
	b.shown = line
}

// line is the bar with what is done, of how much, the deliveries, how fast, and
// how long it will take.
func (b *bar) line(r replays.Replay, now time.Time) string {
	full := int(r.Progress * barWidth)
	total := "?"
	if r.Total != nil {
		total = grouped(max(*r.Total, r.Done))
	}
	line := fmt.Sprintf("[%s%s] %3.0f %%  %s/%s events  %s made", strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
		100*r.Progress, grouped(r.Done), total, grouped(r.Made))
	took := now.Sub(b.since).Seconds()
	switch {
	case r.State != replays.Running:
		return line + "  " + r.State
	case took < watchEvery.Seconds() || r.Progress <= b.first.Progress:
		return line
	}
	left := took * (1 - r.Progress) / (r.Progress - b.first.Progress)
	return fmt.Sprintf("%s  %s/s  %s left", line, grouped(int64(float64(r.Made-b.first.Made)/took)), span(left))
}

// end leaves the line of a terminal.
func (b *bar) end() {
	if b.terminal && b.shown != "" {
		fmt.Fprintln(b.out)
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// span is a duration in seconds as people read it.
func span(seconds float64) string {
	return time.Duration(max(seconds, 0) * float64(time.Second)).Round(time.Second).String()
}

// grouped is a number with its thousands apart: 1,234,567.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func eventCount(n *int64) string {
	switch {
	case n == nil:
		return "more events than were counted"
	case *n == 1:
		return "1 event"
	}
	return grouped(*n) + " events"
}

func deliveryCount(n int64) string {
	if n == 1 {
		return "1 delivery"
	}
	return grouped(n) + " deliveries"
}

func types(r replays.Replay) string {
	if len(r.Types) == 0 {
		return "all types"
	}
	return strings.Join(r.Types, ", ")
}

func to(r replays.Replay) string {
	switch {
	case r.EndpointID != nil:
		return "endpoint " + r.EndpointID.String()
	case r.UserID != nil:
		return "endpoints of user " + r.UserID.String()
	}
	return "all endpoints"
}

func rangeOf(r replays.Replay) string {
	if r.FromSequence != nil {
		return fmt.Sprintf("sequence numbers %d to %d", *r.FromSequence, *r.ToSequence)
	}
	return moment(r.Since) + " to before " + moment(r.Until)
}

func rateOf(r replays.Replay) string {
	if r.Rate == 0 {
		return "no limit"
	}
	return grouped(int64(r.Rate)) + " deliveries a second at most"
}
