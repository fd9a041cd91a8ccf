package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/e2e/internal/child"
	"github.com/cardwire/cardwire/services/internal/broker"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/secrets"
)

// Settings of the services: short, so that a delivery's life fits into a seed.
const (
	attemptTimeout  = 2 * time.Second
	lease           = attemptTimeout + 10*time.Second // what a deliverer makes of it
	retrySchedule   = "200ms,500ms,1s"
	retrySteps      = 3
	sweepGrace      = "1s"
	shutdownTimeout = 10 * time.Second
	settleTime      = 10 * time.Second // how long a deliverer waits for one try to settle
)

// Names of the processes, which are also what faults are done to, with
// PostgreSQL.
const (
	brokerName   = "broker"
	viewsName    = "views"
	webhooksName = "webhooks"
	deliverer1   = "deliverer1"
	deliverer2   = "deliverer2"
	postgresName = "postgres"
)

// serviceNames are the services, each with the name of its command.
var serviceNames = map[string]string{viewsName: "views", webhooksName: "webhooks", deliverer1: "deliverer", deliverer2: "deliverer"}

// A stack is a fresh database, a fresh store of the broker, and the services.
type stack struct {
	*slot
	dir       string
	database  string
	passwords map[string]string
	serial    string // the encryption keyset, as a setting
	keyset    *secrets.Keyset
	jwtSecret string
	env       []string // further settings of the services
	armed     string   // name of the process that is killed at fail-points

	disk        disk // of the broker
	broker, sql *proxy
	procs       map[string]*proc
	busy        map[string]*sync.Mutex // by name: what a fault is being done to

	admin *pgxpool.Pool // not through a proxy
	pool  *pgxpool.Pool // through it, as a publishing service has it
	pub   *events.Publisher
	js    jetstream.JetStream // as operator

	mu      sync.Mutex
	urls    map[string]string // of the services, by name
	died    []error           // processes that ended by themselves
	closers []func()
}

// open makes a stack in dir. Close it also if there is an error.
func (s *slot) open(ctx context.Context, dir, database string, env []string) (st *stack, err error) {
	st = &stack{
		slot: s, dir: dir, database: database, env: env, jwtSecret: uuid.NewString(),
		passwords: make(map[string]string), procs: make(map[string]*proc), busy: make(map[string]*sync.Mutex),
		urls: make(map[string]string),
	}
	for _, user := range broker.Users {
		st.passwords[user] = rand.Text()
	}
	if st.serial, err = secrets.NewKeyset(); err != nil {
		return st, err
	}
	if st.keyset, err = secrets.ParseKeyset(st.serial); err != nil {
		return st, err
	}
	for _, p := range []**proxy{&st.broker, &st.sql} {
		if *p, err = newProxy(); err != nil {
			return st, err
		}
		st.closers = append(st.closers, (*p).close)
	}
	if st.disk, err = openDisk(filepath.Join(dir, "disk")); err != nil {
		return st, err
	}
	st.closers = append(st.closers, st.disk.close)
	if err := st.openDatabase(ctx); err != nil {
		return st, err
	}
	st.busy[postgresName], st.busy[apiName] = &sync.Mutex{}, &sync.Mutex{}
	st.add(brokerName, st.brokerCommand, func(c *child.Child) error {
		var line struct{ Address string }
		err := awaitLine(c, brokerStarted, &line)
		st.broker.lead("tcp", line.Address)
		return err
	})
	if err := st.procs[brokerName].startReady(); err != nil {
		return st, err
	}
	if err := st.connect(); err != nil {
		return st, err
	}
	return st, st.startServices()
}

func (s *stack) add(name string, command func() *exec.Cmd, started func(*child.Child) error) {
	p := &proc{name: name, dir: s.dir, command: command, started: started, failed: s.fail}
	s.procs[name], s.busy[name] = p, &sync.Mutex{}
	s.closers = append(s.closers, func() {
		if c := p.current(); c != nil {
			c.Stop()
		}
	})
}

func (s *stack) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.died = append(s.died, err)
}

// close ends what was started, the last first. Files stay.
func (s *stack) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// openDatabase makes the database of this stack, a copy of the slot's.
func (s *stack) openDatabase(ctx context.Context) error {
	drop, err := s.postgres.CopyDatabase(ctx, s.database)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, drop)
	direct, err := pgx.ParseConfig(s.postgres.DatabaseURL(s.database))
	if err != nil {
		return fmt.Errorf("read the database's URL: %w", err)
	}
	s.sql.lead("unix", fmt.Sprintf("%s/.s.PGSQL.%d", direct.Host, direct.Port))
	if s.admin, err = process.OpenDB(context.WithoutCancel(ctx), s.postgres.DatabaseURL(s.database), "crashlab", nil); err != nil {
		return err
	}
	s.closers = append(s.closers, s.admin.Close)
	if s.pool, err = process.OpenDB(context.WithoutCancel(ctx), s.databaseURL(direct.User), "publisher", nil); err != nil {
		return err
	}
	s.closers = append(s.closers, s.pool.Close)
	return nil
}

// databaseURL leads through the proxy.
func (s *stack) databaseURL(user string) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: s.sql.addr(), Path: s.database, RawQuery: "sslmode=disable"}
	return u.String()
}

// brokerURL leads through the proxy.
func (s *stack) brokerURL(user string) string {
	u := url.URL{Scheme: "nats", User: url.UserPassword(user, s.passwords[user]), Host: s.broker.addr()}
	return u.String()
}

// store is the broker's directory.
func (s *stack) store() string { return filepath.Join(s.disk.dir, "nats") }

func (s *stack) brokerCommand() *exec.Cmd {
	cmd := exec.Command(s.self, "broker", "--conf", s.cfg.NATSConf, "--store", s.store())
	cmd.Env = os.Environ()
	for user, password := range s.passwords {
		cmd.Env = append(cmd.Env, passwordVariable(user)+"="+password)
	}
	return cmd
}

// connect connects the lab itself to the broker, as a publisher and as operator.
func (s *stack) connect() error {
	var conns []*nats.Conn
	for _, user := range []string{"publisher", "operator"} {
		nc, err := process.ConnectNATS(s.brokerURL(user), user, zerolog.Nop(), func(error) {})
		if err != nil {
			return err
		}
		s.closers = append(s.closers, nc.Close)
		conns = append(conns, nc)
	}
	var err1, err2 error
	s.pub, err1 = events.NewPublisher(conns[0])
	s.js, err2 = streams.Open(conns[1])
	return errors.Join(err1, err2)
}

func (s *stack) startServices() error {
	database := s.pool.Config().ConnString()
	types, err := eventTypes(s.dir)
	if err != nil {
		return err
	}
	common := append(os.Environ(),
		"ADDR=127.0.0.1:0", "DATABASE_URL="+database, "JWT_SECRET="+s.jwtSecret, "ENCRYPTION_KEYSET="+s.serial,
		"ALLOW_CIDRS=127.0.0.0/8", "ATTEMPT_TIMEOUT="+attemptTimeout.String(), "RETRY_SCHEDULE="+retrySchedule,
		"SWEEP_INTERVAL=200ms", "SWEEP_GRACE="+sweepGrace, "SHUTDOWN_TIMEOUT="+shutdownTimeout.String(), "VIEWS_RATE=0", "LOG_LEVEL=debug", "MIGRATE=false",
		"EVENT_TYPES_FILE="+types, "MAX_ENDPOINTS=1000", "CREATE_RATE=0", "RECOVER_RATE=0")
	for name, command := range serviceNames {
		s.add(name, func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(s.bin, command))
			cmd.Env = append(common[:len(common):len(common)], append([]string{"NATS_URL=" + s.brokerURL(command)}, s.env...)...)
			if name == s.armed {
				cmd.Env = append(cmd.Env, "FAILPOINT="+s.failpointFile())
			}
			return cmd
		}, func(c *child.Child) error {
			var line struct{ Address string }
			err := awaitLine(c, "service started", &line)
			if err == nil {
				s.mu.Lock()
				s.urls[name] = "http://" + line.Address
				s.mu.Unlock()
			}
			return err
		})
		if err := s.procs[name].start(); err != nil {
			return err
		}
	}
	for name := range serviceNames {
		if err := s.procs[name].ready(); err != nil {
			return err
		}
	}
	return nil
}

// url is where a service serves now.
func (s *stack) url(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.urls[name]
}

func (s *stack) viewsURL() string { return s.url(viewsName) }

// register writes endpoints with their secrets, sealed as the API would, and
// users with the names user0, user1, …
func (s *stack) register(ctx context.Context, url string, users []uuid.UUID, targets []*target) error {
	var batch pgx.Batch
	for i, id := range users {
		batch.Queue(`INSERT INTO users (id, username, display_name) VALUES ($1, $2, 'User')`, id, fmt.Sprintf("user%d", i))
	}
	for _, t := range targets {
		sealed, err := s.keyset.Seal(t.id, []byte(t.secret))
		if err != nil {
			return err
		}
		batch.Queue(`INSERT INTO endpoints (id, user_id, url, events) VALUES ($1, $2, $3, $4)`, t.id, t.user, url+t.id.String(), t.types)
		batch.Queue(`INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext) VALUES ($1, $2, $3)`, uuid.Must(uuid.NewV7()), t.id, sealed)
	}
	if err := s.admin.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("register endpoints: %w", err)
	}
	return nil
}
