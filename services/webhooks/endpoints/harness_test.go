package endpoints

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/services/internal/webjson"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const jwtSecret = "0123456789abcdef0123456789abcdef"

var (
	alice = uuid.MustParse("00000000-0000-7000-8000-000000000001")
	bob   = uuid.MustParse("00000000-0000-7000-8000-000000000002")
)

// A server is the API on a database of its own, behind what serves it in production.
type server struct {
	*API
	handler http.Handler
	db      *pgxpool.Pool
	logs    *syncBuffer
}

func settings(t testing.TB) Config {
	t.Helper()
	keyset, err := secrets.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		JWTSecret: jwtSecret, EncryptionKeyset: keyset, SecretOverlap: 24 * time.Hour, MaxEndpoints: 5,
		MaxBodyBytes: 64 << 10,
		AllowCIDRs:   []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
}

func newServer(t testing.TB) *server {
	t.Helper()
	return serverOn(t, pgtest.New(t))
}

// serverOn is a server whose broker is away.
func serverOn(t testing.TB, pool *pgxpool.Pool) *server {
	t.Helper()
	return serverSet(t, pool, func(*Config) {})
}

// serverSet is serverOn with other settings.
func serverSet(t testing.TB, pool *pgxpool.Pool, change func(*Config)) *server {
	t.Helper()
	cfg := settings(t)
	change(&cfg)
	nc := awayBroker(t)
	js, err := streams.Open(nc)
	if err != nil {
		t.Fatal(err)
	}
	return serverWith(t, cfg, process.Deps{NATS: nc, JS: js, DB: pool})
}

func serverWith(t testing.TB, cfg Config, d process.Deps) *server {
	t.Helper()
	logs := &syncBuffer{}
	d.Log, d.Mux = zerolog.New(logs), http.NewServeMux()
	api, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	return &server{API: api, handler: webjson.Handler(d.Mux, d.Log), db: d.DB, logs: logs}
}

// awayBroker is a connection as the services have it while the broker is away.
func awayBroker(t testing.TB) *nats.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close() // nobody listens there now
	nc, err := nats.Connect("nats://"+address, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// newServerWithBroker is a server with a broker of its own as well.
func newServerWithBroker(t testing.TB) (*server, *steptest.Env) {
	t.Helper()
	e := steptest.New(t)
	return serverWith(t, settings(t), e.Deps("webhooks")), e
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// sentence is the member error of a problem.
func (a answer) sentence(t testing.TB) string {
	t.Helper()
	return decode[Problem](t, a).Message
}

// call makes a request as a user (uuid.Nil is nobody). A body that is no string
// is sent as JSON; header are names and values.
func (s *server) call(t testing.TB, user uuid.UUID, method, path string, body any, header ...string) answer {
	t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	r := httptest.NewRequest(method, path, content)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if user != uuid.Nil {
		r.Header.Set("Authorization", "Bearer "+token(t, user))
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return s.send(r)
}

// one reads one value from the database.
func one[T any](t testing.TB, s *server, query string, args ...any) (v T) {
	t.Helper()
	if err := s.db.QueryRow(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// exec changes the database.
func (s *server) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	if _, err := s.db.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (s *server) send(r *http.Request) answer {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

func token(t testing.TB, user uuid.UUID) string {
	t.Helper()
	text, err := auth.Mint(jwtSecret, user, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// create registers an endpoint by the API.
func (s *server) create(t testing.TB, user uuid.UUID) CreatedEndpoint {
	t.Helper()
	a := s.call(t, user, "POST", "/api/webhooks", map[string]any{
		"url": "https://example.com/" + uuid.NewString(), "events": []string{"card.viewed"},
	})
	if a.status != http.StatusCreated {
		t.Fatalf("create: %d %s", a.status, a.body)
	}
	return decode[CreatedEndpoint](t, a)
}

func decode[T any](t testing.TB, a answer) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %d %s", err, a.status, a.body)
	}
	return v
}

// A syncBuffer is a log that handlers write and a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
