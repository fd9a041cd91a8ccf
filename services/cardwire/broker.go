package main

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/cardwire/kept"
)

// operator is the user of nats.conf that commands are.
const operator = "operator"

// A brokerFlag is which broker a command works on.
type brokerFlag struct {
	NATSURL string `name:"nats-url" env:"NATS_URL" help:"Broker of the services, with the credentials of its user operator: nats://operator:password@host:port. Empty takes that of a running cardwire dev, on the port of nats.conf."`
}

// open connects once; a broker that is not there is an error at once.
func (b brokerFlag) open(data string) (*nats.Conn, jetstream.JetStream, error) {
	url := b.NATSURL
	if url == "" {
		password, err := kept.Find(data, kept.BrokerPassword(operator))
		if errors.Is(err, kept.ErrNone) {
			return nil, nil, errors.New("no broker: set NATS_URL to that of the services, or name the directory of cardwire dev with --data")
		}
		if err != nil {
			return nil, nil, err
		}
		url = "nats://" + operator + ":" + password + "@127.0.0.1:4222"
	}
	nc, err := nats.Connect(url, nats.Name("cardwire-"+operator), nats.Timeout(connectTimeout), nats.MaxReconnects(-1))
	if err != nil {
		return nil, nil, fmt.Errorf("the broker of NATS_URL does not answer: %w", err)
	}
	js, err := streams.Open(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}
