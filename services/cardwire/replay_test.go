package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/services/internal/replays"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// A replayLab is a database with an endpoint and ten events that it has not got.
type replayLab struct {
	pool     *pgxpool.Pool
	env      []string
	endpoint string
}

func newReplayLab(t *testing.T) replayLab {
	t.Helper()
	url := pgtest.URL(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	l := replayLab{pool, []string{"DATABASE_URL=" + url}, uuid.Must(uuid.NewV7()).String()}
	today := time.Now().UTC()
	if _, err := db.New(pool).EnsurePartitions(t.Context(), db.EnsurePartitionsParams{FromDay: today.AddDate(0, 0, -1), ToDay: today}); err != nil {
		t.Fatal(err)
	}
	l.exec(t, `INSERT INTO endpoints (id, user_id, url, events) VALUES ($1, $1, 'https://one.example/', '{card.viewed}')`, l.endpoint)
	l.exec(t, `INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq)
		SELECT new_id(), $1, 'card.viewed', '{}', now(), i FROM generate_series(1, 10) i`, l.endpoint)
	return l
}

func (l replayLab) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := l.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func decodeLines[T any](t *testing.T, text string) (list []T) {
	t.Helper()
	for line := range strings.Lines(text) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		list = append(list, v)
	}
	return list
}

func TestReplay(t *testing.T) {
	t.Parallel()
	l := newReplayLab(t)
	ask := []string{"replay", "start", "--since=1h", "--mode=missing", "--endpoint=" + l.endpoint}

	if got, want := must(t, l.env, append(ask, "--dry-run")...).out, "10 deliveries would be made of 10 events, in about 0s; 0 are left out, as --mode=missing says.\n"; got != want {
		t.Errorf("dry run: %q", got)
	}
	dry := decodeLines[replays.Estimate](t, must(t, l.env, append(ask, "--dry-run", "--json")...).out)
	if len(dry) != 1 || dry[0].Deliveries != 10 || !dry[0].Complete {
		t.Errorf("dry run as JSON: %+v", dry)
	}
	if out := must(t, l.env, "replay", "list").says(t, "There are no replays").out; out != "" {
		t.Errorf("dry runs began %s", out)
	}

	started := decodeLines[replays.Replay](t, must(t, l.env, append(ask, "--json")...).out)[0]
	if started.State != replays.Running || *started.Total != 10 || started.Rate != 500 || !strings.HasPrefix(started.Actor, "cli:") {
		t.Errorf("%+v", started)
	}
	id := started.ID.String()
	if r := run(t, l.env, ask...); r.code != 1 || !strings.Contains(r.err, "replay "+id+" of some of these events has not ended") {
		t.Errorf("a second one: exit code %d: %s", r.code, r.err)
	}
	must(t, l.env, "replay", "pause", id).says(t, "Replay "+id+" is paused, with 0 deliveries made.")
	if out := must(t, l.env, "replay", "show", id).out; !strings.Contains(out, "paused, 0 % done") || !strings.Contains(out, "0 of 10 events") {
		t.Errorf("shown: %s", out)
	}
	must(t, l.env, "replay", "resume", id).says(t, "is running")
	must(t, l.env, "replay", "cancel", id).says(t, "is cancelled")
	if r := run(t, l.env, "replay", "resume", id); r.code != 1 || !strings.Contains(r.err, "the replay is cancelled and can't be resumed") {
		t.Errorf("resumed after the end: exit code %d: %s", r.code, r.err)
	}
	must(t, l.env, append(ask, "--rate=0")...).says(t, "Started replay .* of 10 events. Follow it with: cardwire replay watch ")
	if list := decodeLines[replays.Replay](t, must(t, l.env, "replay", "list", "--json").out); len(list) != 2 || list[1].ID != started.ID || list[0].Rate != 0 {
		t.Errorf("listed %+v", list)
	}
	if out := must(t, l.env, "replay", "list").out; strings.Count(out, "\n") != 3 || !strings.Contains(out, id) {
		t.Errorf("listed %s", out)
	}
}

func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	l := newReplayLab(t)
	for name, tc := range map[string]struct{ args, want string }{
		"no range":                             {"start", "since: is required"},
		"a time that is none":                  {"start --since=yesterday", "must be a time as in 2026-08-02T14:00:00Z, or how long ago, as in 2h or 7d"},
		"an id that is none":                   {"watch x", "invalid UUID"},
		"a replay that is not there":           {"show " + uuid.NewString(), "no such replay; cardwire replay list shows those that there are"},
		"pausing one that is not there":        {"pause " + uuid.NewString(), "no such replay"},
		"an endpoint that is not there":        {"start --since=1h --endpoint=" + uuid.NewString(), "no such endpoint"},
		"a mode that there is not":             {"start --since=1h --mode=lost", "--mode must be one of"},
		"times and sequence numbers":           {"start --since=1h --from-sequence=1 --to-sequence=2", "a range is of times or of sequence numbers"},
		"sequence numbers that nothing has":    {"start --from-sequence=100 --to-sequence=200", "no event with a sequence number of 100 to 200 is kept"},
		"a dry run by what there is not":       {"start --since=1h --type=card.* --dry-run", "types[0]: must be an event type"},
		"a rate that is too high, by a number": {"start --since=1h --rate=20001", "rate: must be 1 to 20000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := run(t, l.env, append([]string{"replay"}, strings.Fields(tc.args)...)...); r.code == 0 || !strings.Contains(r.err, tc.want) || r.out != "" {
				t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
			}
		})
	}
}

func TestReplayWatch(t *testing.T) {
	t.Parallel()
	l := newReplayLab(t)
	p := commandIn(t, l.env, "replay", "start", "--since=1h", "--mode=all", "--watch")
	p.prints(`\[\.{24}\]   0 %  0/10 events  0 made\n`)
	l.exec(t, `UPDATE replays SET done = 5, made = 4, updated_at = now()`)
	p.prints(`\[#{12}\.{12}\]  50 %  5/10 events  4 made  \d+/s  \S+ left\n`)
	l.exec(t, `UPDATE replays SET state = 'paused'`)
	p.prints(`4 made  paused\n`)
	p.signal(os.Interrupt)
	id := p.prints(`The replay goes on without being watched. Watch it again with: cardwire replay watch (\S+)\n`)[1]
	if code, _ := p.ends(); code != 0 {
		t.Errorf("after Ctrl-C: exit code %d", code)
	}
	var state string
	if err := l.pool.QueryRow(t.Context(), `SELECT state FROM replays`).Scan(&state); err != nil || state != replays.Paused {
		t.Errorf("the replay is %s, %v", state, err)
	}
	l.exec(t, `UPDATE replays SET state = 'finished', done = 10, made = 9, finished_at = now()`)
	p = commandIn(t, l.env, "replay", "watch", id)
	p.prints(`100 %  10/10 events  9 made  finished\n`)
	p.prints(`Replay ` + id + ` is finished: 9 deliveries of 10 events made.`)
	if code, _ := p.ends(); code != 0 {
		t.Errorf("at the end: exit code %d", code)
	}
	looks := decodeLines[replays.Replay](t, must(t, l.env, "replay", "watch", "--json", id).out)
	if len(looks) != 1 || looks[0].State != replays.Finished || looks[0].Made != 9 {
		t.Errorf("as JSON: %+v", looks)
	}
}

func TestNumbersAsPeopleReadThem(t *testing.T) {
	t.Parallel()
	got := map[int64]string{}
	for _, n := range []int64{0, 7, 999, 1000, 12345, 1234567, -1000} {
		got[n] = grouped(n)
	}
	want := map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 12345: "12,345", 1234567: "1,234,567", -1000: "-1,000"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
