package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/services/internal/replays"
	"github.com/cardwire/cardwire/sql/db"
)

// replayCommand works on the database, as an operator: whoever has DATABASE_URL
// may do more than this anyway, and it works while the API is away. The services
// webhooks then make the deliveries.
type replayCommand struct {
	Start  startReplayCommand  `cmd:"" help:"Deliver events of a range once more, or say with --dry-run what that would do."`
	List   listReplaysCommand  `cmd:"" help:"List replays, newest first."`
	Show   showReplayCommand   `cmd:"" help:"Show one replay."`
	Watch  watchReplayCommand  `cmd:"" help:"Follow a replay until it has ended. Ctrl-C ends only the watching."`
	Pause  pauseReplayCommand  `cmd:"" help:"Have a replay wait until it is resumed."`
	Resume resumeReplayCommand `cmd:"" help:"Have a replay that is paused go on."`
	Cancel cancelReplayCommand `cmd:"" help:"End a replay for good. What it has made is delivered."`
}

type startReplayCommand struct {
	Endpoint     *uuid.UUID `placeholder:"ID" help:"The endpoint that gets the events, however new it is. Without it, each endpoint gets what it asks for, of events that are not older than it is."`
	User         *uuid.UUID `placeholder:"ID" help:"Whose events. By default everybody's, or those of the endpoint's owner."`
	Mode         string     `default:"failed" enum:"failed,missing,all" help:"failed: what was given up, and not delivered since. missing: what was never made. all: everything."`
	Type         []string   `placeholder:"TYPE" help:"Only events of these types, separated by commas."`
	Since        instant    `placeholder:"TIME" help:"Events of this time or later: as in 2026-08-02T14:00:00Z, or how long ago, as in 2h or 7d."`
	Until        instant    `placeholder:"TIME" help:"And before this time; by default now."`
	FromSequence int64      `placeholder:"N" help:"Instead of times: events from this sequence number of the stream EVENTS on."`
	ToSequence   int64      `placeholder:"N" help:"And up to this one, which is included."`
	Rate         int32      `default:"500" help:"Most deliveries to make per second, up to 20000; 0 is no limit."`
	DryRun       bool       `help:"Only say what it would do."`
	Watch        bool       `help:"Follow it until it has ended, as cardwire replay watch does."`
	JSON         bool       `name:"json" help:"Print JSON, one object a line."`
	database
}

// An instant is a time as people give it.
type instant struct{ at *time.Time }

// UnmarshalText reads RFC 3339, or a time ago in days or as Go writes durations.
func (i *instant) UnmarshalText(text []byte) error {
	if at, err := time.Parse(time.RFC3339, string(text)); err == nil {
		i.at = &at
		return nil
	}
	var ago life
	if err := ago.UnmarshalText(text); err != nil || ago == 0 {
		return errors.New("must be a time as in 2026-08-02T14:00:00Z, or how long ago, as in 2h or 7d")
	}
	at := time.Now().Add(-time.Duration(ago))
	i.at = &at
	return nil
}

// actor names who runs the command, for the audit log.
func actor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return "cli:" + name[:min(len(name), 64)]
}

// Run starts the replay and says how to follow it, or follows it.
func (c startReplayCommand) Run() error {
	ctx, pool, closeAll, err := c.open()
	if err != nil {
		return err
	}
	defer closeAll()
	request := replays.Request{
		Actor: actor(), EndpointID: c.Endpoint, UserID: c.User, Mode: c.Mode, Types: c.Type,
		Since: c.Since.at, Until: c.Until.at, FromSeq: c.FromSequence, ToSeq: c.ToSequence, Rate: &c.Rate,
	}
	if c.DryRun {
		return c.dryRun(ctx, pool, request)
	}
	var r replays.Replay
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		r, err = replays.Start(ctx, tx, request)
		return err
	})
	if err != nil {
		return explain(err)
	}
	if c.Watch {
		return watch(ctx, pool, r.ID, c.JSON)
	}
	if c.JSON {
		return printJSON(r)
	}
	note("Started replay %s of %s. Follow it with: cardwire replay watch %s", r.ID, eventCount(r.Total), r.ID)
	return nil
}

func (c startReplayCommand) dryRun(ctx context.Context, pool *pgxpool.Pool, request replays.Request) error {
	e, err := replays.DryRun(ctx, db.New(pool), request, 24*time.Hour) // or until Ctrl-C
	if err != nil {
		return explain(err)
	}
	if c.JSON {
		return printJSON(e)
	}
	fmt.Printf("%s deliveries would be made of %s events, in about %s; %s are left out, as --mode=%s says.\n",
		grouped(e.Deliveries), grouped(e.Events), span(e.Seconds), grouped(e.Skipped), c.Mode)
	return nil
}

type listReplaysCommand struct {
	Limit int  `default:"20" help:"Most replays to list."`
	JSON  bool `name:"json" help:"Print JSON, one object a line."`
	database
}

// Run prints a table on stdout.
func (c listReplaysCommand) Run() error {
	ctx, pool, closeAll, err := c.open()
	if err != nil {
		return err
	}
	defer closeAll()
	list, err := replays.Store{DB: pool}.List(ctx, nil, uuid.Max, c.Limit)
	if err != nil {
		return explain(err)
	}
	if c.JSON {
		return printJSON(list...)
	}
	if len(list) == 0 {
		note("There are no replays. Start one with: cardwire replay start --since=2h")
		return nil
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATE\tMODE\tTO\tDONE\tMADE\tSKIPPED\tCREATED\tBY")
	for _, r := range list {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.0f %%\t%d\t%d\t%s\t%s\n", r.ID, r.State, r.Mode, to(r), 100*r.Progress, r.Made, r.Skipped, moment(&r.CreatedAt), r.Actor)
	}
	return table.Flush()
}

type showReplayCommand struct {
	ID   uuid.UUID `arg:"" help:"Id of the replay."`
	JSON bool      `name:"json" help:"Print JSON."`
	database
}

// Run prints all of one replay on stdout.
func (c showReplayCommand) Run() error {
	ctx, pool, closeAll, err := c.open()
	if err != nil {
		return err
	}
	defer closeAll()
	r, err := replays.Store{DB: pool}.Get(ctx, nil, c.ID)
	if err != nil {
		return missing(err)
	}
	if c.JSON {
		return printJSON(r)
	}
	printReplay(r)
	return nil
}

func printReplay(r replays.Replay) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", args...) }
	state := r.State
	if r.Reason != nil {
		state += " (" + *r.Reason + ")"
	}
	line("replay", "%s", r.ID)
	line("state", "%s, %.0f %% done", state, 100*r.Progress)
	line("events", "%s of %s", grouped(r.Done), eventCount(r.Total))
	line("deliveries", "%s made, %s left out", grouped(r.Made), grouped(r.Skipped))
	line("what", "%s, %s", r.Mode, types(r))
	line("range", "%s", rangeOf(r))
	line("to", "%s", to(r))
	line("rate", "%s", rateOf(r))
	line("by", "%s at %s", r.Actor, moment(&r.CreatedAt))
	if r.FinishedAt != nil {
		line("ended", "%s", moment(r.FinishedAt))
	}
	_ = table.Flush() // to stdout
}

type pauseReplayCommand struct{ changeReplay }

// Run pauses it.
func (c pauseReplayCommand) Run() error { return c.set(replays.Paused, "paused") }

type resumeReplayCommand struct{ changeReplay }

// Run resumes it.
func (c resumeReplayCommand) Run() error { return c.set(replays.Running, "running") }

type cancelReplayCommand struct{ changeReplay }

// Run cancels it.
func (c cancelReplayCommand) Run() error { return c.set(replays.Cancelled, "cancelled") }

type changeReplay struct {
	ID   uuid.UUID `arg:"" help:"Id of the replay."`
	JSON bool      `name:"json" help:"Print JSON."`
	database
}

func (c changeReplay) set(state, word string) error {
	ctx, pool, closeAll, err := c.open()
	if err != nil {
		return err
	}
	defer closeAll()
	var r replays.Replay
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		r, err = replays.SetState(ctx, tx, nil, c.ID, state, actor())
		return err
	})
	if err != nil {
		return missing(err)
	}
	if c.JSON {
		return printJSON(r)
	}
	note("Replay %s is %s, with %s made.", r.ID, word, deliveryCount(r.Made))
	return nil
}

// missing adds to an error what to do about it.
func missing(err error) error {
	if errors.Is(err, replays.ErrNotFound) {
		return fmt.Errorf("%w; cardwire replay list shows those that there are", err)
	}
	return explain(err)
}

// printJSON prints values on stdout, one a line.
func printJSON[T any](values ...T) error {
	e := json.NewEncoder(os.Stdout)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			return err
		}
	}
	return nil
}
