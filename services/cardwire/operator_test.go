package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestEraseAsACommand(t *testing.T) {
	t.Parallel()
	url, user := pgtest.URL(t), uuid.New()
	env := []string{"DATABASE_URL=" + url, "NATS_URL=" + natstest.Start(t).URL("operator")}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(t.Context(), `INSERT INTO endpoints (id, user_id, url, events) VALUES (new_id(), $1, 'https://a.example/', '{*}')`, user); err != nil {
		t.Fatal(err)
	}
	dry := must(t, env, "erase", "--user", user.String()).says(t, `^Nothing was removed\. To remove all of it, for good: cardwire erase --user `+user.String()+` --yes\n$`)
	if !strings.HasPrefix(dry.out, "THERE IS  OF\n") || !strings.Contains(dry.out, "\n1         endpoints\n") {
		t.Errorf("printed %s", dry.out)
	}
	if r := must(t, env, "erase", "--user", user.String(), "--yes"); !strings.Contains(r.out, "\n1        endpoints\n") {
		t.Errorf("printed %s", r.out)
	}
	if r := must(t, env, "erase", "--user", user.String()); !strings.Contains(r.out, "\n0         endpoints\n") {
		t.Errorf("printed %s", r.out)
	}
}

func TestTailAsACommand(t *testing.T) {
	t.Parallel()
	b := natstest.Start(t)
	js := natstest.JetStream(t, b, "operator")
	env := []string{"DATABASE_URL=" + pgtest.URL(t), "NATS_URL=" + b.URL("operator")}
	if r := run(t, env, "tail"); r.code != 1 {
		t.Errorf("without a stream: %+v", r)
	} else {
		r.says(t, `the broker has no stream EVENTS: have the services been started\?`)
	}
	if _, err := streams.EnsureStream(t.Context(), js, streams.Config{Replicas: 1, EventsMaxAge: 1e15, EventsMaxBytes: 1 << 20}.EventsStream()); err != nil {
		t.Fatal(err)
	}
	e, err := events.New(uuid.New(), events.CardViewed, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	text, asJSON := commandIn(t, env, "tail"), commandIn(t, env, "tail", "--json", "--type=card.*")
	text.prints(`Watching\. Ctrl-C ends it\.\n`)
	asJSON.prints(`Watching\. Ctrl-C ends it\.\n`)
	if _, err := js.PublishMsg(t.Context(), e.Msg()); err != nil {
		t.Fatal(err)
	}
	text.prints(`\d\d:\d\d:\d\d\.\d{3} event    card\.viewed  user ` + e.UserID.String() + `  event ` + e.ID.String() + `  \d+ bytes\n`)
	asJSON.prints(`\{"kind":"event","at":"[^"]+Z","type":"card\.viewed","eventId":"` + e.ID.String() + `","userId":"` + e.UserID.String() + `","streamSeq":1,"bytes":\d+\}\n`)
	for _, p := range []*program{text, asJSON} {
		p.signal(os.Interrupt)
		if code, last := p.ends(); code != 0 || last != "" {
			t.Errorf("after Ctrl-C: exit code %d: %s", code, last)
		}
	}
}

func TestOperatorCommandsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	for _, tt := range []struct {
		name, broker string
		args         []string
		code         int
		says         string
	}{
		{"no user to erase", "", []string{"erase"}, 2, `missing flags: --user=ID`},
		{"a user that is no id", "", []string{"erase", "--user=alice"}, 2, `--user`},
		{"a type that is none", "", []string{"tail", "--type=Card"}, 1, `--type: must be an event type, as in card\.viewed, or a pattern, as in card\.\*, not "Card"`},
		{"no broker is named", "", []string{"tail"}, 1, `no broker: set NATS_URL to that of the services`},
		{"a broker that is not there", "nats://operator:HUSH@127.0.0.1:1", []string{"tail"}, 1, `the broker of NATS_URL does not answer`},
		{"a broker that is not there, to erase", "nats://operator:HUSH@127.0.0.1:1", []string{"erase", "--yes", "--user=" + uuid.NewString()}, 1, `the broker of NATS_URL does not answer`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, []string{"DATABASE_URL=" + url, "NATS_URL=" + tt.broker}, tt.args...).says(t, tt.says)
			if r.code != tt.code || r.out != "" || strings.Contains(r.err, "HUSH") {
				t.Errorf("%+v, want exit code %d", r, tt.code)
			}
		})
	}
}
