// Package e2e holds tests of the whole pipeline: views, webhooks and deliverer
// together, on a real broker and a real PostgreSQL, with POSTs over loopback.
package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// asDeliverer in the environment makes the test binary a deliverer: a process
// of its own, which a test can kill.
const asDeliverer = "CARDWIRE_TEST_DELIVERER"

func TestMain(m *testing.M) {
	if os.Getenv(asDeliverer) != "" {
		runDeliverer()
	}
	if os.Getenv(asNATS) != "" {
		runNATS()
	}
	if os.Getenv(asNATSServer) != "" {
		runNATSServer()
	}
	os.Exit(pgtest.Main(m))
}

func runDeliverer() {
	log := process.NewLogger(os.Stderr, "info")
	ctx := process.StopOnSignal(context.Background(), log, 30*time.Second)
	err := process.Run(ctx, process.Service{Name: "deliverer"}, process.Config{
		Addr: "127.0.0.1:0", NATSURL: os.Getenv("NATS_URL"), DatabaseURL: os.Getenv("DATABASE_URL"),
		StreamReplicas: 1, EventsMaxAge: 24 * time.Hour, EventsMaxBytes: 1 << 30, ShutdownTimeout: 30 * time.Second,
	}, log, func(d process.Deps) ([]process.Step, error) {
		cfg := deliverConfig(os.Getenv("ENCRYPTION_KEYSET"))
		cfg.AttemptTimeout = 25 * time.Second
		worker, err := deliver.New(cfg, d)
		if err != nil {
			return nil, err
		}
		sweeper, err := sweep.New(sweepConfig(), d)
		if err != nil {
			return nil, err
		}
		return []process.Step{worker, sweeper}, nil
	})
	if err != nil {
		log.Error().Err(err).Msg("deliverer failed")
		os.Exit(1)
	}
	os.Exit(0)
}
