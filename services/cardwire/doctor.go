package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/cardwire/doctor"
	"github.com/cardwire/cardwire/services/cardwire/kept"
	"github.com/cardwire/cardwire/services/deliverer/deliver"
)

// doctorCommand has the settings of the services that it compares with.
type doctorCommand struct {
	NATSURL string `name:"nats-url" env:"NATS_URL" default:"nats://127.0.0.1:4222" help:"Broker, as a user that may ask about streams and consumers: operator. Without a user, that of a cardwire dev."`
	database
	JSON bool `name:"json" help:"Print the findings as a JSON array."`

	StreamReplicas int              `env:"STREAM_REPLICAS" default:"1" help:"As the services have it."`
	EventsMaxAge   time.Duration    `env:"EVENTS_MAX_AGE" default:"720h" help:"As the services have it."`
	EventsMaxBytes int64            `env:"EVENTS_MAX_BYTES" default:"10737418240" help:"As the services have it."`
	Retention      time.Duration    `env:"RETENTION" default:"720h" help:"As webhooks has it."`
	Schedule       deliver.Schedule `env:"RETRY_SCHEDULE" default:"30s,5m,30m" help:"As the deliverer has it."`
}

// Run prints one line for each check, and fails if one of them does.
func (c doctorCommand) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := c.config()
	if err != nil {
		return err
	}
	findings := doctor.Examine(ctx, cfg)
	failed := 0
	for _, f := range findings {
		if f.Status == doctor.Fail {
			failed++
		}
	}
	if c.JSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(findings); err != nil {
			return fmt.Errorf("print findings: %w", err)
		}
	} else {
		for _, f := range findings {
			line := fmt.Sprintf("%-4s  %s: %s", f.Status, f.Check, f.Detail)
			if f.Do != "" {
				line += ". " + f.Do
			}
			fmt.Println(line)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(findings))
	}
	return nil
}

// config adds what a cardwire dev keeps to what is set.
func (c doctorCommand) config() (cfg doctor.Config, err error) {
	cfg = doctor.Config{
		NATSURL:  c.NATSURL,
		Streams:  streams.Config{Replicas: c.StreamReplicas, EventsMaxAge: c.EventsMaxAge, EventsMaxBytes: c.EventsMaxBytes},
		Schedule: c.Schedule, Retention: c.Retention,
	}
	if cfg.DatabaseURL, err = c.database.url(); err != nil {
		return cfg, err
	}
	if cfg.Keyset, err = kept.Find(c.Data, kept.EncryptionKeyset); err != nil && !errors.Is(err, kept.ErrNone) {
		return cfg, err
	}
	if u, err := url.Parse(c.NATSURL); err == nil && u.User == nil {
		if password, err := kept.Find(c.Data, kept.BrokerPassword(operator)); err == nil {
			cfg.NATSOptions = append(cfg.NATSOptions, nats.UserInfo(operator, password))
		}
	}
	return cfg, nil
}
