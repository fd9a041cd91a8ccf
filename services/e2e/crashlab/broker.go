package main

import (
	"context"
	"os"
	"strings"

	"github.com/cardwire/cardwire/services/internal/broker"
	"github.com/cardwire/cardwire/services/internal/process"
)

// brokerCmd is this program as the broker: nats-server with nats.conf in a
// process of its own, with passwords from the environment as nats.conf has them.
type brokerCmd struct {
	Conf  string `required:""`
	Store string `required:""`
}

// brokerStarted is the message of the line with the broker's address.
const brokerStarted = "broker started"

// Run serves until the process is told to stop, or killed.
func (c brokerCmd) Run(ctx context.Context) error {
	log := process.NewLogger(os.Stderr, "warn")
	passwords := make(map[string]string)
	for _, user := range broker.Users {
		passwords[user] = os.Getenv(passwordVariable(user))
	}
	b, err := broker.Start(broker.Config{File: c.Conf, StoreDir: c.Store, Host: "127.0.0.1", Port: -1, Passwords: passwords, Log: log})
	if err != nil {
		return err
	}
	defer b.Stop()
	log.Log().Str("address", b.Address()).Msg(brokerStarted)
	<-ctx.Done()
	return nil
}

func passwordVariable(user string) string { return "NATS_" + strings.ToUpper(user) + "_PASSWORD" }
