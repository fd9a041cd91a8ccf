package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
)

// Numbers of a seed.
const (
	users     = 6
	perSecond = 120 // events published
	maxFaults = 4
)

// rules are what the checker is told of the settings.
var rules = check.Rules{Steps: retrySteps, Lease: lease, Slack: 2 * time.Second, Settle: settleTime, Publish: 6 * time.Second}

// A run is a seed being run.
type run struct {
	seed      int64
	dir       string
	stack     *stack
	publisher *publisher
	receiver  *receiver
	targets   []*target
	published *check.Journal
	received  *check.Journal
	faulted   *check.Journal
	changed   *check.Journal
	api       *api
	begun     time.Time
}

// A result is what came of a seed.
type result struct {
	Seed       int64             `json:"seed"`
	Faults     []string          `json:"faults"`
	Counts     check.Counts      `json:"counts"`
	Recovered  float64           `json:"recovery_s"` // from the end of load and faults until all was done
	Took       float64           `json:"took_s"`
	Violations []check.Violation `json:"violations,omitempty"`
	Kept       string            `json:"kept,omitempty"`
}

// runSeed runs a seed. What it leaves is removed if nothing is wrong.
func (s *slot) runSeed(ctx context.Context, seed int64, env []string) (res result, err error) {
	begun := time.Now()
	res.Seed = seed
	r := &run{seed: seed, dir: filepath.Join(s.dir, fmt.Sprintf("seed-%d", seed))}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return res, fmt.Errorf("make directory: %w", err)
	}
	rnd := rand.New(rand.NewPCG(uint64(seed), 1))
	defer func() {
		if r.stack != nil {
			r.stack.close()
		}
		if err == nil && len(res.Violations) == 0 && !s.cfg.Keep {
			err = os.RemoveAll(r.dir)
			return
		}
		res.Kept = r.dir
	}()
	if r.stack, err = s.open(ctx, r.dir, fmt.Sprintf("seed%d", seed), env); err != nil {
		return res, err
	}
	if err := r.openParts(ctx, rnd); err != nil {
		return res, err
	}
	var wrong []error
	res.Faults, wrong = r.load(ctx, rnd)
	ended := time.Now()
	accepted, err := r.acceptedEvents()
	if err != nil {
		return res, err
	}
	if err := r.stack.awaitQuiet(ctx, accepted, s.cfg.Quiet); err != nil {
		wrong = append(wrong, err)
	}
	res.Recovered = time.Since(ended).Seconds()
	r.receiver.close()
	if err := r.judge(ctx, &res, wrong); err != nil {
		return res, err
	}
	res.Took = time.Since(begun).Seconds()
	return res, nil
}

// openParts opens what is never killed: journals, receiver and publisher.
func (r *run) openParts(ctx context.Context, rnd *rand.Rand) error {
	if err := r.openJournals(); err != nil {
		return err
	}
	owners, err := r.population(rnd)
	if err != nil {
		return err
	}
	return r.openReceiver(ctx, owners)
}

func (r *run) openJournals() (err error) {
	for _, j := range []struct {
		journal **check.Journal
		name    string
	}{{&r.published, "published"}, {&r.received, "received"}, {&r.faulted, "faults"}, {&r.changed, "changes"}} {
		if *j.journal, err = check.OpenJournal(r.journal(j.name)); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) journal(name string) string { return filepath.Join(r.dir, name+".ndjson") }

// population makes users and their endpoints: by the seed, some of each behaviour.
func (r *run) population(rnd *rand.Rand) (owners []uuid.UUID, err error) {
	others := []behaviour{slow, flaky, doomed, hangs, outage, departs, well}
	for range users {
		owners = append(owners, uuid.Must(uuid.NewV7()))
	}
	add := func(user uuid.UUID, how behaviour, types ...string) {
		t, newErr := newTarget(user, how, types...)
		err = errors.Join(err, newErr)
		r.targets = append(r.targets, t)
	}
	for _, user := range owners {
		add(user, well, common, viewed)
		for range 3 {
			how := others[rnd.IntN(len(others))]
			types := [][]string{{common, viewed}, {common}, {viewed, common, "lab.other"}}
			add(user, how, types[rnd.IntN(len(types))]...)
		}
		add(user, well, "lab.other") // of which there is none
	}
	add(owners[0], dead, rare)
	return owners, err
}

// acceptedEvents writes down what the views service's log says of each view, and
// returns all events that were accepted.
func (r *run) acceptedEvents() (accepted []uuid.UUID, err error) {
	pages, err := r.pagesAccepted()
	if err != nil {
		return nil, err
	}
	for _, p := range pages {
		r.published.Write(p)
	}
	lines, err := check.ReadJournal[check.Published](r.journal("published"))
	seen := make(map[uuid.UUID]bool, len(lines)) // pages are written down each time
	for _, l := range lines {
		if l.State == check.Accepted && !seen[l.EventID] {
			seen[l.EventID] = true
			accepted = append(accepted, l.EventID)
		}
	}
	return accepted, err
}

// pagesAccepted is what the views service's logs say of each view.
func (r *run) pagesAccepted() (pages []check.Published, err error) {
	logs, err := filepath.Glob(filepath.Join(r.dir, viewsName+"-*.log"))
	if err != nil {
		return nil, err
	}
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(text) {
			var l struct {
				Message string    `json:"message"`
				EventID uuid.UUID `json:"event_id"`
				UserID  uuid.UUID `json:"user_id"`
				Via     string    `json:"via"`
				Time    time.Time `json:"time"`
			}
			if json.Unmarshal(line, &l) != nil {
				continue // cut off by a kill
			}
			p := check.Published{EventID: l.EventID, UserID: l.UserID, Type: viewed, Via: viaPage + ", " + l.Via, At: l.Time}
			switch l.Message {
			case "view accepted":
				p.State = check.Accepted
			case "view lost":
				p.State = check.Refused
			default:
				continue
			}
			pages = append(pages, p)
		}
	}
	return pages, nil
}

// judge has the checker judge the run.
func (r *run) judge(ctx context.Context, res *result, wrong []error) error {
	err := errors.Join(r.published.Close(), r.received.Close(), r.faulted.Close(), r.changed.Close())
	conn, err2 := r.stack.connectDirectly(ctx)
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	defer conn.Close(ctx)
	var rec check.Record
	var errs [5]error
	rec.Published, errs[0] = check.ReadJournal[check.Published](r.journal("published"))
	rec.Received, errs[1] = check.ReadJournal[check.Received](r.journal("received"))
	rec.Faults, errs[2] = check.ReadJournal[check.Fault](r.journal("faults"))
	rec.Changes, errs[4] = check.ReadJournal[check.Change](r.journal("changes"))
	rec.Rows, errs[3] = check.ReadRows(ctx, conn)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	res.Counts, res.Violations = check.Run(rules, rec)
	r.stack.mu.Lock()
	wrong = append(wrong, r.stack.died...)
	r.stack.mu.Unlock()
	for _, err := range wrong {
		res.Violations = append(res.Violations, check.Violation{Invariant: "I7", Text: err.Error()})
	}
	if len(res.Violations) == 0 && !r.stack.cfg.Keep {
		return nil
	}
	return r.keepRows(ctx, conn, res.Violations)
}

// keepRows writes the tables, and what is wrong, beside the journals and logs.
func (r *run) keepRows(ctx context.Context, conn *pgx.Conn, violations []check.Violation) error {
	for _, table := range strings.Fields("events deliveries attempts endpoints endpoint_states outbox dead_events replays") {
		f, err := os.Create(filepath.Join(r.dir, "table-"+table+".ndjson"))
		if err != nil {
			return err
		}
		_, err = conn.PgConn().CopyTo(ctx, f, "COPY (SELECT row_to_json(t) FROM "+table+" t) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')")
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("keep table %s: %w", table, err)
		}
	}
	text, err := json.MarshalIndent(violations, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(r.dir, "violations.json"), text, 0o600), r.keepBroker(ctx))
}

// keepBroker writes what the broker says of its streams and consumers, a line for each.
func (r *run) keepBroker(ctx context.Context) error {
	f, err := os.Create(filepath.Join(r.dir, "broker.ndjson"))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := json.NewEncoder(f)
	list := r.stack.js.ListStreams(ctx)
	for info := range list.Info() {
		err = errors.Join(err, lines.Encode(info))
		stream, streamErr := r.stack.js.Stream(ctx, info.Config.Name)
		if streamErr != nil {
			err = errors.Join(err, streamErr)
			continue
		}
		consumers := stream.ListConsumers(ctx)
		for info := range consumers.Info() {
			err = errors.Join(err, lines.Encode(info))
		}
		err = errors.Join(err, consumers.Err())
	}
	if err = errors.Join(err, list.Err()); err != nil {
		return fmt.Errorf("keep what the broker says: %w", err)
	}
	return nil
}

// connectDirectly makes a connection to PostgreSQL that no proxy touches.
func (s *stack) connectDirectly(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, s.postgres.DatabaseURL(s.database))
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}
