package process

import (
	"fmt"
	"time"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/timerslack"
)

// Config is what every service is told, by flags or by the environment.
type Config struct {
	Addr            string        `env:"ADDR" default:"${addr}" help:"Address to serve HTTP on, /healthz and /readyz included."`
	NATSURL         string        `name:"nats-url" env:"NATS_URL" default:"nats://127.0.0.1:4222" help:"Broker, several separated by commas. Credentials as nats://user:password@host:port."`
	DatabaseURL     string        `env:"DATABASE_URL" default:"postgres://127.0.0.1:5432/cardwire" help:"PostgreSQL 14 or newer. pool_max_conns=N in the query sets the size of the pool."`
	Migrate         bool          `env:"MIGRATE" default:"true" negatable:"" help:"Bring the database schema up to date at start. Replicas may do it at once."`
	LogLevel        string        `env:"LOG_LEVEL" default:"info" enum:"trace,debug,info,warn,error" help:"Least level to log: trace, debug, info, warn, error."`
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" default:"30s" help:"How long work in flight may take to finish after SIGTERM; for the deliverer 5s more than ATTEMPT_TIMEOUT. A second signal ends it at once."`

	TimerSlack time.Duration `env:"TIMER_SLACK" default:"4ms" help:"How late timers may fire, so that the process is woken up less often (0 to 10ms, Linux alone). 0 leaves that to the system."`
	PprofAddr  string        `env:"PPROF_ADDR" help:"Loopback address to serve Go's profiles on, such as 127.0.0.1:6060. Empty serves none."`

	StreamReplicas int           `env:"STREAM_REPLICAS" default:"1" help:"Copies of each stream when it is created: 1, or 3 or 5 in a cluster."`
	EventsMaxAge   time.Duration `env:"EVENTS_MAX_AGE" default:"720h" help:"How long the stream keeps events when it is created: how far back a replay reaches."`
	EventsMaxBytes int64         `env:"EVENTS_MAX_BYTES" default:"10737418240" help:"How many bytes of events the stream keeps when it is created. When full, events go to the outbox."`
}

// Streams is the part of the configuration that is about streams.
func (c Config) Streams() streams.Config {
	return streams.Config{Replicas: c.StreamReplicas, EventsMaxAge: c.EventsMaxAge, EventsMaxBytes: c.EventsMaxBytes}
}

// Validate says what is wrong with a setting. It is called by the flag parser.
func (c Config) Validate() error {
	switch {
	case c.StreamReplicas != 1 && c.StreamReplicas != 3 && c.StreamReplicas != 5:
		return fmt.Errorf("STREAM_REPLICAS: must be 1, 3 or 5, not %d", c.StreamReplicas)
	case c.EventsMaxAge < time.Hour:
		return fmt.Errorf("EVENTS_MAX_AGE: must be at least 1h, not %s", c.EventsMaxAge)
	case c.EventsMaxBytes < 1<<20:
		return fmt.Errorf("EVENTS_MAX_BYTES: must be at least 1048576, not %d", c.EventsMaxBytes)
	case timerslack.Check(c.TimerSlack) != nil:
		return fmt.Errorf("TIMER_SLACK: %w", timerslack.Check(c.TimerSlack))
	case c.ShutdownTimeout <= 0:
		return fmt.Errorf("SHUTDOWN_TIMEOUT: must be positive, not %s", c.ShutdownTimeout)
	}
	return nil
}
