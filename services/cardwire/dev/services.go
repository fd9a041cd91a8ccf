package dev

import (
	"context"
	"fmt"
	"net/http"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/broker"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/views/view"
	"github.com/cardwire/cardwire/services/webhooks/endpoints"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
	"github.com/cardwire/cardwire/services/webhooks/publish"
	"github.com/cardwire/cardwire/services/webhooks/recovery"
	"github.com/cardwire/cardwire/services/webhooks/replay"
)

// allowCIDRs is where endpoints may be beside public addresses: here, and
// nowhere else on the network.
const allowCIDRs = "127.0.0.0/8,::1/128"

// A connections is what each service has for itself. All routes are on one mux.
type connections struct {
	views, webhooks, deliverer process.Deps
}

// connect connects as each service. If one connection is given up, fail is
// called with the reason.
func (d *dev) connect(ctx context.Context, b *broker.Broker, s settings, databaseURL string, fail func(error)) (c *connections, err error) {
	shared, err := parse[process.Config]()
	if err != nil {
		return nil, err
	}
	c = &connections{}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	mux, registry := http.NewServeMux(), process.NewMetrics()
	sessions := map[string]map[string]string{"deliverer": deliver.Session()}
	for name, deps := range c.byName() {
		deps.Mux, deps.Streams, deps.Metrics, deps.Shutdown = mux, shared.Streams(), registry, d.cfg.ShutdownTimeout
		deps.Log = d.log.With().Str("service", name).Logger()
		if deps.DB, err = process.OpenDB(ctx, databaseURL, name, sessions[name]); err != nil {
			return nil, err
		}
		deps.NATS, err = process.ConnectNATS("nats://"+b.Address(), name, deps.Log, func(err error) {
			if ctx.Err() == nil {
				fail(fmt.Errorf("broker connection of %s closed: %w", name, err))
			}
		}, nats.UserInfo(name, s.passwords[name]), b.InProcess())
		if err != nil {
			return nil, err
		}
		if deps.JS, err = streams.Open(deps.NATS); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// byName returns the services by their names, which are those of their users in nats.conf.
func (c *connections) byName() map[string]*process.Deps {
	return map[string]*process.Deps{"views": &c.views, "webhooks": &c.webhooks, "deliverer": &c.deliverer}
}

// close closes what is open, after what was handed over has left.
func (c *connections) close() {
	for _, deps := range c.byName() {
		if deps.NATS != nil {
			process.CloseNATS(deps.NATS)
		}
		if deps.DB != nil {
			deps.DB.Close()
		}
	}
}

// steps makes the steps of all services, with the settings of the environment
// and ours.
func (d *dev) steps(c *connections, s settings) ([]process.Step, error) {
	// Settings that more than one step has. Our tokens name no issuer.
	tokens := []string{"--jwt-secret=" + s.jwtSecret, "--jwt-issuer=", "--jwt-audience="}
	sealed := []string{"--encryption-keyset=" + s.keyset, "--allow-cidrs=" + allowCIDRs}
	api, err := parse[endpoints.Config](tokens, sealed)
	if err != nil {
		return nil, err
	}
	fan, err := parse[fanout.Config]()
	if err != nil {
		return nil, err
	}
	pub, err := parse[publish.Config]()
	if err != nil {
		return nil, err
	}
	pub.EventTypesFile, pub.Retention = api.EventTypesFile, fan.Retention
	fan.EventTypesFile, fan.AcceptUnknown = api.EventTypesFile, pub.AcceptUnknown()
	var all []process.Step
	for _, open := range []func() (process.Step, error){
		func() (process.Step, error) { return step(view.New, c.views, tokens) },
		func() (process.Step, error) { return endpoints.New(api, c.webhooks) },
		func() (process.Step, error) { return fanout.New(fan, c.webhooks) },
		func() (process.Step, error) { return publish.New(pub, c.webhooks) },
		func() (process.Step, error) { return step(recovery.New, c.webhooks) },
		func() (process.Step, error) { return step(replay.New, c.webhooks) },
		func() (process.Step, error) { return step(deliver.New, c.deliverer, sealed) },
		func() (process.Step, error) { return step(sweep.New, c.deliverer) },
	} {
		one, err := open()
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// step makes a step with the settings that its service would have.
func step[C any, S process.Step](open func(C, process.Deps) (S, error), d process.Deps, args ...[]string) (process.Step, error) {
	cfg, err := parse[C](args...)
	if err != nil {
		return nil, err
	}
	return open(cfg, d)
}

// parse reads settings from environment and defaults, as the service itself
// would; flags in args stand before both.
func parse[C any](args ...[]string) (cfg C, err error) {
	parser, err := kong.New(&cfg, kong.Vars{"addr": ""})
	if err != nil {
		return cfg, fmt.Errorf("read settings: %w", err)
	}
	var all []string
	for _, a := range args {
		all = append(all, a...)
	}
	_, err = parser.Parse(all)
	return cfg, err
}
