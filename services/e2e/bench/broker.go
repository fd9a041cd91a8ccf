package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/broker"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/timerslack"
)

// brokerCmd is this program as the broker: a NATS server with nats.conf in a
// process of its own.
type brokerCmd struct {
	Conf     string `required:""`
	Store    string `required:""`
	Profiles string // address to serve them on

	// TimerSlack is that of the services: a nats-server has it from its unit of systemd.
	TimerSlack time.Duration `env:"TIMER_SLACK" default:"4ms"`
}

// brokerStarted is the message of the line with the broker's URLs by user.
const brokerStarted = "broker started"

// Run serves until the process is killed.
func (c brokerCmd) Run(ctx context.Context) error {
	log := process.NewLogger(os.Stderr, "warn")
	if err := timerslack.Set(c.TimerSlack); err != nil {
		log.Warn().Err(err).Msg(timerslack.NotSet)
	}
	if c.Profiles != "" {
		if err := process.ServeProfiles(ctx, c.Profiles, process.NewLogger(os.Stderr, "info")); err != nil {
			return err
		}
	}
	b, err := broker.Start(broker.Config{File: c.Conf, StoreDir: c.Store, Host: "127.0.0.1", Port: -1, Log: log})
	if err != nil {
		return err
	}
	defer b.Stop()
	urls := zerolog.Dict()
	for _, user := range broker.Users {
		urls.Str(user, b.URL(user))
	}
	log.Log().Dict("urls", urls).Msg(brokerStarted)
	<-ctx.Done()
	return nil
}

var syncInterval = regexp.MustCompile(`(?m)^(\s*sync_interval:).*$`)

// brokerConf is nats.conf with another sync_interval.
func brokerConf(conf []byte, sync string) ([]byte, error) {
	if n := len(syncInterval.FindAll(conf, -1)); n != 1 {
		return nil, fmt.Errorf("nats.conf has %d lines with sync_interval, want 1", n)
	}
	return syncInterval.ReplaceAll(conf, []byte(`${1} "`+sync+`"`)), nil
}
