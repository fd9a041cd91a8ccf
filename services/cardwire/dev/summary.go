package dev

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/cardwire/demo"
	"github.com/cardwire/cardwire/services/cardwire/kept"
	"github.com/cardwire/cardwire/services/cardwire/receiver"
	"github.com/cardwire/cardwire/services/internal/auth"
)

// A summary is what is printed once everything runs.
type summary struct {
	Took     time.Duration
	URL      string // where everything is, without a slash at its end
	Receiver string // URL
	Live     bool   // the demo's endpoint is there
	Card     uuid.UUID
	Broker   string
	Secrets  string // directory
	Database string
	Log      string
	Token    string // of alice
	Hours    float64
	// What a shell makes a token of: a command, or the token itself.
	AliceToken, BobToken string
}

var summaryText = template.Must(template.New("").Parse(`
Cardwire runs: views, webhooks and deliverer, up after {{.Took}}. Ctrl-C stops it, twice kills it.

  profile   {{.URL}}/api/u/alice
  card      {{.URL}}/api/u/alice/card/{{.Card}}
  docs      {{.URL}}/docs
  health    {{.URL}}/healthz  {{.URL}}/readyz
  broker    nats://{{.Broker}}  (users' passwords in {{.Secrets}})
  database  {{.Database}}
  logs      {{.Log}}  (LOG=info make dev shows them here too)
  token     of alice, valid for {{.Hours}} hours:
            {{.Token}}

Try it in another terminal. Look at alice's profile, save her card as bob, list her endpoints:

  curl {{.URL}}/api/u/alice
  curl -X POST -H "Authorization: Bearer {{.BobToken}}" {{.URL}}/api/cards/{{.Card}}/save
  curl -H "Authorization: Bearer {{.AliceToken}}" {{.URL}}/api/webhooks

{{if .Live -}}
Each view of alice's and each save is POSTed to the sample receiver, which verifies it and prints a line here.
{{- else -}}
The demo endpoint was deleted. POST {{.URL}}/api/webhooks registers another one for {{.Receiver}}
{{- end}}
To watch retries, register an endpoint {{.Receiver}}?status=500

`))

// summarize prints the summary.
func (d *dev) summarize(addr, brokerAddr string, db *database, s settings, live bool) error {
	sum := summary{
		Took: time.Since(d.begun).Round(100 * time.Millisecond), URL: "http://" + addr, Receiver: "http://" + addr + receiver.Path,
		Live: live, Card: demo.AliceCard, Broker: brokerAddr, Secrets: kept.Dir(d.cfg.Data), Database: db.describe(),
		Log: logPath(d.cfg.Data), Hours: tokenTTL.Hours(),
	}
	var err error
	if sum.Token, err = auth.Mint(s.jwtSecret, demo.Alice, tokenTTL, time.Now()); err != nil {
		return err
	}
	sum.AliceToken, sum.BobToken = d.tokenCommand("alice"), d.tokenCommand("bob")
	if os.Getenv(kept.JWTSecret) != "" { // which another terminal need not have
		sum.AliceToken = sum.Token
		if sum.BobToken, err = auth.Mint(s.jwtSecret, demo.Bob, tokenTTL, time.Now()); err != nil {
			return err
		}
	}
	var text bytes.Buffer // one Write: the receiver may print at the same time
	if err := summaryText.Execute(&text, sum); err != nil {
		return fmt.Errorf("make summary: %w", err)
	}
	if _, err := d.out.Write(text.Bytes()); err != nil {
		return fmt.Errorf("print summary: %w", err)
	}
	return nil
}

// tokenCommand is what a shell in this directory makes a user's token of.
func (d *dev) tokenCommand(user string) string {
	command := shellQuote(os.Args[0]) + " token --user " + user
	if d.cfg.Data != defaultData {
		command += " --data " + shellQuote(d.cfg.Data)
	}
	return "$(" + command + ")"
}

// shellQuote quotes s for a shell if it must be.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// describe says where the database is, without a password.
func (db *database) describe() string {
	if db.server != nil {
		return db.url
	}
	cfg, err := pgx.ParseConfig(db.url)
	if err != nil {
		return "DATABASE_URL"
	}
	return cfg.Database + " at " + net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))) + "  (DATABASE_URL)"
}
