// Command deliverer POSTs deliveries to endpoints, signed, and logs every attempt.
package main

import (
	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/process"
)

type config struct {
	Deliver deliver.Config `embed:"" group:"Deliver"`
	Sweep   sweep.Config   `embed:"" group:"Sweep"`
}

func main() {
	process.Main(process.Service{
		Name:  "deliverer",
		About: "Delivers events to endpoints: claims each delivery in PostgreSQL, POSTs it signed, logs the attempt, retries with JetStream.",
		Addr:  "127.0.0.1:8083",

		Session: deliver.Session(),
	}, open)
}

func open(cfg config, d process.Deps) ([]process.Step, error) {
	worker, err := deliver.New(cfg.Deliver, d)
	if err != nil {
		return nil, err
	}
	sweeper, err := sweep.New(cfg.Sweep, d)
	if err != nil {
		return nil, err
	}
	return []process.Step{worker, sweeper}, nil
}
