// Package natstest gives a test a real NATS server with the accounts of
// nats.conf. Redelivery, dedup and ack wait live in the server: a fake would
// prove nothing.
package natstest

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/broker"
)

// Start starts a broker of the test's own on a free port of loopback, with an
// empty store, and stops it after the test.
func Start(t testing.TB) *broker.Broker {
	t.Helper()
	return StartIn(t, t.TempDir(), -1)
}

// StartIn starts a broker with a given store and port (-1: a free one), as for
// a restart.
func StartIn(t testing.TB, storeDir string, port int) *broker.Broker {
	t.Helper()
	passwords := make(map[string]string)
	for _, user := range broker.Users {
		passwords[user] = user // the same after a restart
	}
	b, err := broker.Start(broker.Config{
		File:      ConfigFile(t),
		StoreDir:  storeDir,
		Host:      "127.0.0.1",
		Port:      port,
		Passwords: passwords,
		Log:       zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

// ConfigFile is the path of nats.conf, at the top of the repository.
func ConfigFile(t testing.TB) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(file), "..", "..", "..", "nats.conf")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// connectTimeout is for a machine that many tests keep busy: 2 s, the client's
// own, are not always enough to be let in.
const connectTimeout = 30 * time.Second

// Connect connects as a user of nats.conf, in the way that the services do,
// and closes the connection after the test.
func Connect(t testing.TB, b *broker.Broker, user string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(b.URL(user), nats.CustomInboxPrefix("_INBOX_"+user),
		nats.MaxReconnects(-1), nats.ReconnectBufSize(-1), nats.Timeout(connectTimeout))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// JetStream is Connect for a test that only wants the streams.
func JetStream(t testing.TB, b *broker.Broker, user string) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(Connect(t, b, user))
	if err != nil {
		t.Fatal(err)
	}
	return js
}
