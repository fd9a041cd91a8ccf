// Command webhooks fans events out to endpoints, works off recoveries and
// replays, and serves the endpoints API, the delivery log and publishing over HTTP.
package main

import (
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/webhooks/endpoints"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
	"github.com/cardwire/cardwire/services/webhooks/publish"
	"github.com/cardwire/cardwire/services/webhooks/recovery"
	"github.com/cardwire/cardwire/services/webhooks/replay"
)

type config struct {
	Endpoints endpoints.Config `embed:"" group:"Endpoints API"`
	FanOut    fanout.Config    `embed:"" group:"Fan-out"`
	Publish   publish.Config   `embed:"" group:"Publishing over HTTP"`
	Recovery  recovery.Config  `embed:"" group:"Recovery"`
	Replay    replay.Config    `embed:"" group:"Replay"`
}

func main() {
	process.Main(process.Service{
		Name:  "webhooks",
		About: "Fans each event out to the endpoints that want it, and serves the endpoints API with the delivery log.",
		Addr:  "127.0.0.1:8082",
	}, open)
}

func open(cfg config, d process.Deps) ([]process.Step, error) {
	api, err := endpoints.New(cfg.Endpoints, d)
	if err != nil {
		return nil, err
	}
	cfg.Publish.EventTypesFile, cfg.Publish.Retention = cfg.Endpoints.EventTypesFile, cfg.FanOut.Retention
	pub, err := publish.New(cfg.Publish, d)
	if err != nil {
		return nil, err
	}
	cfg.FanOut.EventTypesFile, cfg.FanOut.AcceptUnknown = cfg.Endpoints.EventTypesFile, cfg.Publish.AcceptUnknown()
	fan, err := fanout.New(cfg.FanOut, d)
	if err != nil {
		return nil, err
	}
	rec, err := recovery.New(cfg.Recovery, d)
	if err != nil {
		return nil, err
	}
	rep, err := replay.New(cfg.Replay, d)
	if err != nil {
		return nil, err
	}
	return []process.Step{api, pub, fan, rec, rep}, nil
}
