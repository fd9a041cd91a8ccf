package process

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/retry"
)

// Connection settings, against defaults that lose or hide work.
const (
	// With 2 pings unanswered, a silent broker is given up after 7.5 to 10 s, not
	// after 6 min: then the others of a cluster are tried. Longer, and writes
	// resume later; shorter, and a broker that stands still for a moment loses
	// its clients.
	natsPing      = 2500 * time.Millisecond
	natsPingsOut  = 2
	natsReconnect = 500 * time.Millisecond // pause between tries, ±; a restart of the broker takes about a second
	natsTimeout   = 3 * time.Second        // to connect, and to hand over what is left when closing
	dbConnTimeout = 3 * time.Second        // to connect

	// dbIdleTimeout is how long PostgreSQL keeps a transaction, with its locks,
	// whose client says nothing: one that was stopped, or whose machine is gone.
	// Less than a lease has beyond an attempt, so that others can settle in time
	// what they waited to; more than the 5 s that the outbox's relay waits for the
	// broker.
	dbIdleTimeout = 8 * time.Second
)

// ConnectNATS connects as a service, and goes on trying for ever if the broker
// is away: the returned connection may still be connecting. Nothing is buffered
// meanwhile, as the client could lose it: a publish fails and its caller
// decides. user names the service in the broker's monitoring and is the prefix
// of its inboxes (nats.conf). onClosed is called if the connection is given up, which
// happens only when it is closed or the broker refuses our credentials.
func ConnectNATS(url, user string, log zerolog.Logger, onClosed func(error), opts ...nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{
		nats.Name("cardwire-" + user),
		nats.CustomInboxPrefix("_INBOX_" + user),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		nats.ReconnectWait(natsReconnect),
		nats.ReconnectJitter(natsReconnect, natsReconnect),
		nats.PingInterval(natsPing),
		nats.MaxPingsOutstanding(natsPingsOut),
		nats.Timeout(natsTimeout),
		nats.ConnectHandler(func(c *nats.Conn) {
			log.Info().Str("broker", c.ConnectedAddr()).Msg("broker connected")
		}),
		nats.DisconnectErrHandler(func(c *nats.Conn, err error) {
			if !c.IsClosed() {
				log.Warn().Err(err).Msg("broker disconnected")
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			log.Info().Str("broker", c.ConnectedAddr()).Msg("broker connected again")
		}),
		nats.ReconnectErrHandler(sayNow(func(err error) {
			log.Warn().Err(err).Msg("broker does not answer: NATS_URL says where it is; trying on")
		})),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Error().Err(err).Msg("broker connection error")
		}),
		nats.ClosedHandler(func(c *nats.Conn) { onClosed(c.LastError()) }),
	}, opts...)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to broker: %w", err)
	}
	return nc, nil
}

// CloseNATS closes the connection after what was handed to it has left.
func CloseNATS(nc *nats.Conn) {
	if nc.IsConnected() {
		_ = nc.FlushTimeout(natsTimeout)
	}
	nc.Close()
}

// sayNow makes a handler of connection errors that passes on one in
// retry.MaxPause: the client tries twice a second.
func sayNow(say func(error)) nats.ConnErrHandler {
	var last time.Time // the client calls its handlers one at a time
	return func(_ *nats.Conn, err error) {
		if now := time.Now(); now.Sub(last) >= retry.MaxPause {
			last = now
			say(err)
		}
	}
}

// idleSetting is PostgreSQL's setting of dbIdleTimeout.
const idleSetting = "idle_in_transaction_session_timeout"

// OpenDB makes a pool of connections to PostgreSQL. It connects when first
// used: only a malformed URL is an error here. session are settings of its
// sessions, over those of the URL.
func OpenDB(ctx context.Context, url, service string, session map[string]string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err) // pgx leaves the password out
	}
	cfg.ConnConfig.ConnectTimeout = dbConnTimeout
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "cardwire-" + service
	}
	settings := map[string]string{}
	if cfg.ConnConfig.RuntimeParams[idleSetting] == "" {
		settings[idleSetting] = strconv.FormatInt(dbIdleTimeout.Milliseconds(), 10)
	}
	maps.Copy(settings, session)
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		registerUUIDs(c.TypeMap())
		for name, value := range settings {
			// Not at the start of the session: poolers refuse what they don't know there.
			if _, err := c.Exec(ctx, "SELECT set_config($1, $2, false)", name, value); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return pool, nil
}
