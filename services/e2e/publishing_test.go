package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/apikeys"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
	"github.com/cardwire/cardwire/services/webhooks/publish"
)

// asNATS in the environment makes the test binary stand in for the nats command
// where that is not installed: it takes the arguments that docs/publishing.md uses.
const asNATS = "CARDWIRE_TEST_NATS"

func runNATS() {
	var cli struct {
		Request struct {
			Raw           bool
			Server        string
			Header        []string `short:"H" sep:"none"`
			Subject, Body string   `arg:""`
		} `cmd:""`
	}
	kong.Parse(&cli)
	c := cli.Request
	nc, err := nats.Connect(c.Server, nats.Timeout(steptest.Bound))
	if err != nil {
		panic(err)
	}
	m := nats.NewMsg(c.Subject)
	m.Data = []byte(c.Body)
	for _, h := range c.Header {
		name, value, _ := strings.Cut(h, ":")
		m.Header.Set(name, value)
	}
	ack, err := nc.RequestMsg(m, steptest.Bound)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(ack.Data))
	os.Exit(0)
}

// A block is a fenced one of a document, and what it prints by the block behind it.
type block struct{ language, code, prints string }

func blocks(t *testing.T, path string) (list []block) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```\n").FindAllStringSubmatch(string(text), -1) {
		switch m[1] {
		case "sh", "js":
			list = append(list, block{language: m[1], code: m[2]})
		case "text":
			list[len(list)-1].prints = m[2]
		}
	}
	return list
}

// script makes one script of the blocks, each followed by a line that ends what it prints.
func script(t *testing.T, dir string, list []block) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("set -eu\n")
	for i, one := range list {
		if one.language == "js" {
			file := filepath.Join(dir, fmt.Sprintf("block%d.mjs", i))
			if err := os.WriteFile(file, []byte(one.code), 0o600); err != nil {
				t.Fatal(err)
			}
			one.code = "node " + file + "\n"
		}
		b.WriteString(one.code + "echo '== end of block'\n")
	}
	return b.String()
}

// TestTheTranscriptOfPublishing runs docs/publishing.md. It needs curl and node,
// as .ci/run provides them.
func TestTheTranscriptOfPublishing(t *testing.T) {
	t.Parallel()
	p := &pipeline{Env: steptest.New(t)}
	url := p.serve("webhooks", func(d process.Deps) (process.Step, error) {
		fan, err := fanout.New(fanout.Config{Retention: 24 * time.Hour, FanoutBatch: 100}, d)
		if err != nil {
			return nil, err
		}
		if _, err := streams.EnsureStream(t.Context(), d.JS, d.Streams.EventsStream()); err != nil {
			return nil, err
		}
		p.Run(fan)
		return publish.New(publish.Config{UnknownEventTypes: "refuse", Retention: 24 * time.Hour}, d)
	})
	key, _, err := (apikeys.Store{DB: p.DB}).Create(t.Context(), "shop", []apikeys.Scope{apikeys.EventsPublish}, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := exec.LookPath("nats"); err != nil {
		standIn := "#!/bin/sh\n" + asNATS + "=1 exec '" + os.Args[0] + "' \"$@\"\n"
		if err := os.WriteFile(filepath.Join(dir, "nats"), []byte(standIn), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	list := blocks(t, filepath.Join(filepath.Dir(natstest.ConfigFile(t)), "docs", "publishing.md"))
	cmd := exec.CommandContext(t.Context(), "sh")
	cmd.Stdin = strings.NewReader(script(t, dir, list))
	cmd.Env = append(os.Environ(), "CARDWIRE="+url, "KEY="+key, "NATS_URL="+p.Broker.URL("publisher"), "OWNER="+alice.String(), "PATH="+dir+":"+os.Getenv("PATH"))
	var faults bytes.Buffer
	cmd.Stderr = &faults
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s after\n%s", err, &faults, out)
	}
	printed := strings.Split(string(out), "== end of block\n")
	if len(list) < 6 || len(printed) != len(list)+1 {
		t.Fatalf("%d blocks printed %d times", len(list), len(printed)-1)
	}
	for i, one := range list {
		// … stands for anything.
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(one.prints), "…", ".*") + "\n?$"
		if !regexp.MustCompile(pattern).MatchString(printed[i]) {
			t.Errorf("block\n%s\nprinted\n%s\nthe document says\n%s", one.code, printed[i], one.prints)
		}
	}
	// 6 events: single, by key, of the batch, a CloudEvent, from Node.js, over NATS.
	p.Await("events fanned out", `SELECT count(*) = 6 FROM events`)
	p.Await("the dead one", `SELECT count(*) = 1 FROM dead_events WHERE reason = 'invalid event: body.type: must be the event''s type, card.viewed'`)
}
