package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/e2e/internal/child"
	"github.com/cardwire/cardwire/services/internal/broker"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/steptest"
)

// asNATSServer in the environment makes the test binary nats-server, arguments
// and signals included.
const asNATSServer = "CARDWIRE_TEST_NATS_SERVER"

func runNATSServer() {
	opts, err := server.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ExitOnError), os.Args[1:], nil, nil, nil)
	if err != nil {
		server.PrintAndDie(err.Error())
	}
	s, err := server.NewServer(opts)
	if err != nil {
		server.PrintAndDie(err.Error())
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		server.PrintAndDie(err.Error())
	}
	s.WaitForShutdown()
	os.Exit(0)
}

// A cluster is the three servers of deploy/nats-cluster, each a process of its
// own, on ports of the test's own.
type cluster struct {
	t     *testing.T
	nodes [3]*node
	wires [3][3]*wire         // from and to each
	js    jetstream.JetStream // as operator
}

// A node is one server.
type node struct {
	name, client, monitor string // name, and the addresses of two of its ports
	conf, dir             string
	env                   []string
	child                 *child.Child
}

// startCluster returns when the streams are there, with a copy on each server.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t}
	top := t.TempDir()
	var ports []string // as in the files, then as here
	for to := range c.nodes {
		client, route, monitor := freeAddress(t), freeAddress(t), freeAddress(t)
		ports = append(ports, fmt.Sprintf("127.0.0.1:422%d", to+2), client, fmt.Sprintf("127.0.0.1:822%d", to+2), monitor)
		// What servers tell each other of a third leads nowhere: each goes over its wires.
		ports = append(ports, fmt.Sprintf(`listen: "127.0.0.1:622%d"`, to+2), fmt.Sprintf("listen: %q\n  advertise: %q", route, nowhere))
		for from := range c.nodes {
			c.wires[from][to] = newWire(t, route)
		}
		c.nodes[to] = &node{name: fmt.Sprintf("n%d", to+1), client: client, monitor: monitor, dir: top}
	}
	copyConfiguration(t, top, strings.NewReplacer(ports...))
	env := append(os.Environ(), asNATSServer+"=1", "NATS_CLUSTER_PASSWORD=secret")
	for _, user := range broker.Users {
		env = append(env, "NATS_"+strings.ToUpper(user)+"_PASSWORD="+user)
	}
	for i, n := range c.nodes {
		n.conf = filepath.Join(top, "deploy", "nats-cluster", n.name+".conf")
		n.env = append(env[:len(env):len(env)], "NATS_STORE_DIR="+filepath.Join(top, "store-"+n.name), "NATS_CLUSTER_ROUTES="+c.routes(i))
		n.start(t)
		t.Cleanup(func() { n.child.Stop() })
	}
	var err error
	if c.js, err = streams.Open(c.connect("operator")); err != nil {
		t.Fatal(err)
	}
	cfg := streams.Config{Replicas: 3, EventsMaxAge: 24 * time.Hour, EventsMaxBytes: 1 << 30}
	events := cfg.EventsStream()
	events.Duplicates = 10 * time.Minute // a repeat may come after a freeze that a slow machine makes long
	c.ensure(events)
	// The other one as of a deployment that had one copy: the services leave it
	// at that, and an operator deletes it, as it can't be edited (docs/nats-cluster.md).
	one := cfg
	one.Replicas = 1
	c.ensure(one.DeliveriesStream())
	if s := c.ensure(cfg.DeliveriesStream()); s.CachedInfo().Config.Replicas != 1 {
		t.Errorf("DELIVERIES has %d copies: made with 1, and not deleted", s.CachedInfo().Config.Replicas)
	}
	until(t, "DELIVERIES deleted", func(ctx context.Context) error {
		err := c.js.DeleteStream(ctx, streams.Deliveries)
		if errors.Is(err, jetstream.ErrStreamNotFound) { // an answer got lost
			return nil
		}
		return err
	})
	until(t, "DELIVERIES made anew", func(ctx context.Context) error {
		s, err := streams.EnsureStream(ctx, c.js, cfg.DeliveriesStream())
		if err == nil && s.CachedInfo().Config.Replicas != cfg.Replicas { // not each server knows yet
			err = fmt.Errorf("it has %d copies", s.CachedInfo().Config.Replicas)
		}
		return err
	})
	c.awaitHealth()
	return c
}

// nowhere is an address at which nobody listens.
const nowhere = "127.0.0.1:1"

// routes are those of a server to the others, over its wires.
func (c *cluster) routes(from int) string {
	var routes []string
	for to, w := range c.wires[from] {
		if to != from {
			routes = append(routes, "nats-route://cluster:secret@"+w.address)
		}
	}
	return "[" + strings.Join(routes, ", ") + "]"
}

// isolate cuts a server off from the others, or ends that. Its clients stay.
func (c *cluster) isolate(n *node, cut bool) {
	for i := range c.nodes {
		for j := range c.nodes {
			if c.nodes[i] == n || c.nodes[j] == n {
				c.wires[i][j].set(cut)
			}
		}
	}
}

// ensure makes a stream as a service does, as soon as the cluster lets it.
func (c *cluster) ensure(cfg jetstream.StreamConfig) (stream jetstream.Stream) {
	c.t.Helper()
	until(c.t, "stream "+cfg.Name+" there", func(ctx context.Context) (err error) {
		stream, err = streams.EnsureStream(ctx, c.js, cfg)
		return err
	})
	return stream
}

// copyConfiguration copies deploy/nats-cluster and nats.conf, with other ports.
func copyConfiguration(t *testing.T, top string, ports *strings.Replacer) {
	t.Helper()
	root := filepath.Dir(natstest.ConfigFile(t))
	files, err := filepath.Glob(filepath.Join(root, "deploy", "nats-cluster", "*.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(top, "deploy", "nats-cluster"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, natstest.ConfigFile(t)) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		path, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, path), []byte(ports.Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// freeAddress is one of loopback that nobody listens on. Its port is below those
// that systems hand out by themselves, so that it is still free after a restart.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
}

func (n *node) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-c", n.conf)
	cmd.Env = n.env
	var err error
	if n.child, err = child.Start(n.dir, n.name, cmd); err != nil {
		t.Fatal(err)
	}
}

// url is NATS_URL of a service: all three servers, from the i-th on.
func (c *cluster) url(user string, i int) string {
	var urls []string
	for j := range c.nodes {
		urls = append(urls, fmt.Sprintf("nats://%s:%s@%s", user, user, c.nodes[(i+j)%len(c.nodes)].client))
	}
	return strings.Join(urls, ",")
}

// connect connects as a service does, to any of the three.
func (c *cluster) connect(user string) *nats.Conn { return c.connectTo(user, 0) }

// connectTo connects to the i-th if opts say so, and to another when it is lost.
func (c *cluster) connectTo(user string, i int, opts ...nats.Option) *nats.Conn {
	c.t.Helper()
	nc, err := process.ConnectNATS(c.url(user, i), user, zerolog.Nop(), func(error) {}, opts...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return nc
}

// leader is the server that leads EVENTS.
func (c *cluster) leader() *node {
	c.t.Helper()
	var leader *node
	until(c.t, "a leader of EVENTS", func(ctx context.Context) error {
		s, err := c.js.Stream(ctx, streams.Events)
		if err != nil {
			return err
		}
		for _, n := range c.nodes {
			if n.name == s.CachedInfo().Cluster.Leader {
				leader = n
				return nil
			}
		}
		return errors.New("it has none")
	})
	return leader
}

// follower is one that does not lead EVENTS.
func (c *cluster) follower() *node {
	c.t.Helper()
	leader := c.leader()
	for _, n := range c.nodes {
		if n != leader {
			return n
		}
	}
	panic("there is one server")
}

// awaitHealth waits until all servers say that they are well, and each stream
// that all its copies are up to date.
func (c *cluster) awaitHealth() {
	c.t.Helper()
	for _, n := range c.nodes {
		until(c.t, n.name+" healthy", func(ctx context.Context) error { return n.health(ctx) })
	}
	for _, name := range []string{streams.Events, streams.Deliveries} {
		until(c.t, "copies of "+name+" up to date", func(ctx context.Context) error {
			s, err := c.js.Stream(ctx, name)
			if err != nil {
				return err
			}
			cluster := s.CachedInfo().Cluster
			if cluster.Leader == "" || len(cluster.Replicas) != 2 {
				return fmt.Errorf("leader %q, %d replicas", cluster.Leader, len(cluster.Replicas))
			}
			for _, r := range cluster.Replicas {
				if !r.Current || r.Offline {
					return fmt.Errorf("%s is not", r.Name)
				}
			}
			return nil
		})
	}
}

func (n *node) health(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.monitor+"/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%d %s; its log ends with:\n%s", resp.StatusCode, text, n.child.Tail())
	}
	return nil
}

// clusterBound only turns a hang into a failure. It is longer than that of other
// tests: there are elections in what it bounds, on a machine that may be busy.
const clusterBound = 3 * steptest.Bound

// until asks again until the answer is nil, as a cluster can't tell by itself.
func until(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	deadline := time.Now().Add(clusterBound)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		err := ask(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, clusterBound, err)
		}
		<-tick.C
	}
}
