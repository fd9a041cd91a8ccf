// Package broker runs the NATS server of nats.conf inside this process.
package broker

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"golang.org/x/crypto/bcrypt"
)

// Users are the users of nats.conf, each with permissions for its step.
var Users = [...]string{"views", "webhooks", "deliverer", "publisher", "operator"}

// readyTimeout is how long the broker may take to open its store. A store of a
// million messages opens in about a second.
const readyTimeout = 30 * time.Second

// Config says how the embedded broker differs from nats.conf.
type Config struct {
	File     string // path of nats.conf
	StoreDir string // where JetStream keeps its streams
	Host     string // address to listen on; empty for nats.conf's
	Port     int    // port to listen on, -1 for a free one, 0 for nats.conf's
	// Passwords by user, of at most 72 bytes. A user without one gets a random
	// password, which nobody knows.
	Passwords map[string]string
	Log       zerolog.Logger
}

// A Broker is a running NATS server.
type Broker struct {
	server    *server.Server
	passwords map[string]string
}

// Start starts the broker and returns once it takes connections. The variables
// that nats.conf takes its passwords from are set to cfg.Passwords for it, and
// the environment is not asked.
func Start(cfg Config) (*Broker, error) {
	file, err := os.ReadFile(cfg.File)
	if err != nil {
		return nil, fmt.Errorf("read broker configuration: %w", err)
	}
	b := &Broker{passwords: make(map[string]string, len(Users))}
	var conf strings.Builder
	for _, user := range Users {
		password := cfg.Passwords[user]
		if password == "" {
			password = rand.Text()
		}
		b.passwords[user] = password
		// Hashed, as otherwise the server warns at each start that they are not.
		// The hash never leaves this process, so the cheapest will do.
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			return nil, fmt.Errorf("hash broker password of %s: %w", user, err)
		}
		fmt.Fprintf(&conf, "NATS_%s_PASSWORD: %q\n", strings.ToUpper(user), hash)
	}
	conf.Write(file)

	var opts server.Options
	if err := opts.ProcessConfigString(conf.String()); err != nil {
		return nil, fmt.Errorf("read broker configuration %s: %w", cfg.File, err)
	}
	opts.NoSigs = true // signals belong to whoever embeds the broker
	opts.StoreDir = cfg.StoreDir
	if cfg.Host != "" {
		opts.Host = cfg.Host
	}
	if cfg.Port != 0 {
		opts.Port = cfg.Port
	}
	if err := checkFree(opts.Host, opts.Port); err != nil {
		return nil, err
	}
	b.server, err = server.NewServer(&opts)
	if err != nil {
		return nil, fmt.Errorf("configure broker: %w", err)
	}
	b.server.SetLoggerV2(serverLog{cfg.Log}, false, false, false)
	b.server.Start()
	if !b.server.ReadyForConnections(readyTimeout) {
		b.Stop()
		return nil, fmt.Errorf("start broker on %s:%d with its store in %s: not ready after %s", opts.Host, opts.Port, cfg.StoreDir, readyTimeout)
	}
	return b, nil
}

// checkFree says at once that the address is taken, for which the server would
// make us wait until readyTimeout. The error is syscall.EADDRINUSE then.
func checkFree(host string, port int) error {
	if port == server.RANDOM_PORT {
		return nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	return l.Close()
}

// URL is where a user connects over TCP, credentials included.
func (b *Broker) URL(user string) string {
	u := url.URL{Scheme: "nats", User: url.UserPassword(user, b.passwords[user]), Host: b.Address()}
	return u.String()
}

// Address is where the broker listens, without credentials.
func (b *Broker) Address() string { return b.server.Addr().String() }

// InProcess is a connection option that reaches the broker without a socket.
func (b *Broker) InProcess() nats.Option { return nats.InProcessServer(b.server) }

// Stop stops the broker and returns when its store is closed.
func (b *Broker) Stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// serverLog passes the server's own log on: its notices are of interest to
// nobody but a developer of ours.
type serverLog struct{ log zerolog.Logger }

func (l serverLog) line(e *zerolog.Event, format string, args []any) {
	e.Str("text", fmt.Sprintf(format, args...)).Msg("broker log")
}

func (l serverLog) Noticef(format string, args ...any) { l.line(l.log.Debug(), format, args) }
func (l serverLog) Debugf(format string, args ...any)  { l.line(l.log.Trace(), format, args) }
func (l serverLog) Tracef(format string, args ...any)  { l.line(l.log.Trace(), format, args) }
func (l serverLog) Warnf(format string, args ...any)   { l.line(l.log.Warn(), format, args) }
func (l serverLog) Errorf(format string, args ...any)  { l.line(l.log.Error(), format, args) }
func (l serverLog) Fatalf(format string, args ...any)  { l.line(l.log.Error(), format, args) }
