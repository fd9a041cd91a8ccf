package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/e2e/internal/child"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/secrets"
)

// poll is the pause between two looks at something that cannot tell by itself.
const poll = 10 * time.Millisecond

// startTime bounds the start of a stack on a busy machine.
const startTime = 2 * time.Minute

// A stack is all that is measured, running, on a fresh database and a fresh
// store of the broker: each service, the broker and the receiver as a process
// of its own.
type stack struct {
	*lab
	dir      string
	database string
	pool     *pgxpool.Pool
	serial   string // the encryption keyset, as a setting
	keyset   *secrets.Keyset
	children map[string]*child.Child
	// URLs of the receiver: a host that is well, one that fails, one that
	// hangs, and one that refuses connections.
	well, fails, hangs, refuses string
	views                       string // URL of the views service
	pub                         *events.Publisher
	js                          jetstream.JetStream // as operator
	closers                     []func()            // in order of opening
}

// stop ends what was started, the last first, and removes its files.
func (s *stack) stop() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// onStack starts a stack with settings of the services as NAME=value, and
// calls run with it. A process of it that ends by itself ends run's context.
func (l *lab) onStack(ctx context.Context, env []string, run func(context.Context, *stack) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.stacks++
	name := fmt.Sprintf("bench%d", l.stacks)
	s := &stack{lab: l, dir: filepath.Join(l.dir, name), database: name, children: make(map[string]*child.Child)}
	defer s.stop()
	startCtx, stopStart := context.WithTimeout(ctx, startTime)
	defer stopStart()
	if err := s.start(startCtx, env, cancel); err != nil {
		return err
	}
	err = s.warmUp(startCtx)
	if err == nil {
		err = run(ctx, s)
	}
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause // what failed after it is no news
	}
	return err
}

func (s *stack) start(ctx context.Context, env []string, failed func(error)) (err error) {
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	s.closers = append(s.closers, func() { _ = os.RemoveAll(s.dir) })
	if s.serial, err = secrets.NewKeyset(); err != nil {
		return err
	}
	if s.keyset, err = secrets.ParseKeyset(s.serial); err != nil {
		return err
	}
	if err := s.openDatabase(ctx); err != nil {
		return err
	}
	if s.refuses, err = s.refuse(); err != nil {
		return err
	}
	urls, err := s.startOwn(ctx, failed)
	if err != nil {
		return err
	}
	if err := s.startServices(ctx, urls, env, failed); err != nil {
		return err
	}
	return s.connect(urls)
}

// startOwn starts the processes that are this program: broker and receiver. It
// returns the broker's URLs by user.
func (s *stack) startOwn(ctx context.Context, failed func(error)) (map[string]string, error) {
	broker := exec.Command(s.self, "broker", "--conf", s.natsConf, "--store", filepath.Join(s.dir, "nats"), "--profiles", s.profilesAt())
	if err := s.spawn("broker", broker, failed); err != nil {
		return nil, err
	}
	if err := s.spawn("receiver", exec.Command(s.self, "receiver"), failed); err != nil {
		return nil, err
	}
	var users struct{ URLs map[string]string }
	if err := s.children["broker"].AwaitLine(ctx, brokerStarted, &users); err != nil {
		return nil, err
	}
	var receiver struct{ URLs []string }
	if err := s.children["receiver"].AwaitLine(ctx, receiverStarted, &receiver); err != nil {
		return nil, err
	}
	s.well, s.fails, s.hangs = receiver.URLs[0], receiver.URLs[1], receiver.URLs[2]
	return users.URLs, nil
}

// openDatabase makes the database of this stack, a copy of the lab's.
func (s *stack) openDatabase(ctx context.Context) error {
	drop, err := s.postgres.CopyDatabase(ctx, s.database)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, drop)
	s.pool, err = process.OpenDB(context.WithoutCancel(ctx), s.databaseURL(), "bench", nil)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.pool.Close)
	return nil
}

func (s *stack) databaseURL() string { return s.postgres.DatabaseURL(s.database) }

// refuse takes a port without listening on it: connections are refused, and
// nobody else gets it.
func (s *stack) refuse() (url string, err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return "", fmt.Errorf("make a socket: %w", err)
	}
	s.closers = append(s.closers, func() { _ = syscall.Close(fd) })
	syscall.CloseOnExec(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", fmt.Errorf("take a port: %w", err)
	}
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		return "", fmt.Errorf("take a port: %w", err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", addr.(*syscall.SockaddrInet4).Port), nil
}

func (s *stack) spawn(name string, cmd *exec.Cmd, failed func(error)) error {
	c, err := child.Start(s.dir, name, cmd)
	if err != nil {
		return err
	}
	s.children[name] = c
	s.closers = append(s.closers, c.Stop)
	go c.Watch(failed) // ends with the child
	return nil
}

func (s *stack) startServices(ctx context.Context, urls map[string]string, env []string, failed func(error)) error {
	common := append(os.Environ(),
		"ADDR=127.0.0.1:0", "DATABASE_URL="+s.databaseURL(), "JWT_SECRET="+uuid.NewString(), "ENCRYPTION_KEYSET="+s.serial,
		"ALLOW_CIDRS=127.0.0.0/8", "ATTEMPT_TIMEOUT=10s", "VIEWS_RATE=0", "LOG_LEVEL=info", "MIGRATE=false",
		"PPROF_ADDR="+s.profilesAt(),
		"RETRY_SCHEDULE="+s.cfg.Schedule)
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range services {
		cmd := exec.Command(filepath.Join(s.bin, name))
		cmd.Env = append(append(common[:len(common):len(common)], env...), "NATS_URL="+urls[name])
		if err := s.spawn(name, cmd, failed); err != nil {
			return err
		}
		c := s.children[name]
		g.Go(func() error {
			var started struct{ Address string }
			if err := c.AwaitLine(ctx, "service started", &started); err != nil {
				return err
			}
			if c.Name == "views" {
				s.views = "http://" + started.Address
			}
			return nil
		})
	}
	return g.Wait()
}

func (s *stack) connect(urls map[string]string) error {
	publisher, err := process.ConnectNATS(urls["publisher"], "publisher", zerolog.Nop(), func(error) {})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, publisher.Close)
	var opts []events.PublisherOption
	if s.cfg.Atomic {
		opts = append(opts, events.AtomicBatches())
	}
	if s.pub, err = events.NewPublisher(publisher, opts...); err != nil {
		return err
	}
	operator, err := process.ConnectNATS(urls["operator"], "operator", zerolog.Nop(), func(error) {})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, operator.Close)
	s.js, err = streams.Open(operator)
	return err
}

// warmUp takes a few events through, so that connections and plans are there,
// and then forgets them.
func (s *stack) warmUp(ctx context.Context) error {
	const count = 100
	eps, err := s.register(ctx, 1, 1, func(int) string { return s.well + "/0s/warm-up/0" })
	if err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	for { // the stream is there once a service has made it
		_, err := s.js.Stream(ctx, streams.Events)
		if err == nil {
			break
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) || ctx.Err() != nil {
			return fmt.Errorf("warm up: %w", err)
		}
		time.Sleep(poll)
	}
	if err := s.flood(ctx, newLoad(count, 512, owners(eps))); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	if got, err := s.awaitReceived(ctx, "warm-up", count, startTime); err != nil || got.Distinct < count {
		return errors.Join(fmt.Errorf("warm up: %d of %d events were delivered", got.Distinct, count), err)
	}
	if err := s.awaitSettled(ctx); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return s.forget(ctx)
}
