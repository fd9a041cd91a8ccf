package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/eventtypes"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/services/internal/webjson"
	"github.com/cardwire/cardwire/services/views/view"
	"github.com/cardwire/cardwire/services/webhooks/endpoints"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
)

const jwtSecret = "a secret for tests that is long enough"

var (
	alice    = uuid.MustParse("00000000-0000-7000-8000-000000000001")
	bob      = uuid.MustParse("00000000-0000-7000-8000-000000000002")
	card     = uuid.MustParse("00000000-0000-7000-8000-0000000000c1")
	loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
)

func deliverConfig(keyset string) deliver.Config {
	return deliver.Config{
		EncryptionKeyset: keyset, AttemptTimeout: 5 * time.Second, Concurrency: 16, PerEndpoint: 10, AllowCIDRs: loopback,
		Schedule: deliver.Schedule{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond},
	}
}

func sweepConfig() sweep.Config {
	return sweep.Config{SweepInterval: 50 * time.Millisecond, SweepGrace: 200 * time.Millisecond}
}

// A pipeline is all services but, where a test says so, the deliverer.
type pipeline struct {
	*steptest.Env
	views, webhooks string // their URLs
}

func start(t *testing.T) *pipeline {
	t.Helper()
	p := &pipeline{Env: steptest.New(t)}
	p.Exec(`INSERT INTO users (id, username, display_name) VALUES ($1, 'alice', 'Alice'), ($2, 'bob', 'Bob')`, alice, bob)
	p.Exec(`INSERT INTO cards (id, user_id, title) VALUES ($1, $2, 'Work')`, card, alice)

	p.views = p.serve("views", func(d process.Deps) (process.Step, error) {
		return view.New(view.Config{
			JWTSecret: jwtSecret, PublishTimeout: time.Second, ProfileCacheTTL: time.Second,
			ProfileCacheSize: 10, ViewsRate: 1000, ViewsBurst: 1000,
		}, d)
	})
	p.webhooks = p.serve("webhooks", func(d process.Deps) (process.Step, error) {
		fan, err := fanout.New(fanout.Config{Retention: 24 * time.Hour, FanoutBatch: 100}, d)
		if err != nil {
			return nil, err
		}
		p.Run(fan)
		return endpoints.New(endpoints.Config{
			JWTSecret: jwtSecret, EncryptionKeyset: p.Serial, SecretOverlap: time.Hour, MaxEndpoints: 5,
			AllowCIDRs: loopback, MaxBodyBytes: 65536,
		}, d)
	})
	return p
}

func (p *pipeline) serve(service string, open func(process.Deps) (process.Step, error)) (url string) {
	p.T.Helper()
	d := p.Deps(service)
	step, err := open(d)
	if err != nil {
		p.T.Fatal(err)
	}
	p.Run(step)
	s := httptest.NewServer(webjson.Handler(d.Mux, d.Log))
	p.T.Cleanup(s.Close)
	return s.URL
}

func (p *pipeline) deliver() {
	p.T.Helper()
	d := p.Deps("deliverer")
	worker, err := deliver.New(deliverConfig(p.Serial), d)
	if err != nil {
		p.T.Fatal(err)
	}
	sweeper, err := sweep.New(sweepConfig(), d)
	if err != nil {
		p.T.Fatal(err)
	}
	p.Run(worker)
	p.Run(sweeper)
}

// call makes a request as a user (uuid.Nil: nobody), checks the status and reads
// the answer into out, if that is not nil.
func (p *pipeline) call(user uuid.UUID, method, url, body string, status int, out any) {
	p.T.Helper()
	r, err := http.NewRequestWithContext(p.T.Context(), method, url, strings.NewReader(body))
	if err != nil {
		p.T.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if user != uuid.Nil {
		token, err := auth.Mint(jwtSecret, user, time.Hour, time.Now())
		if err != nil {
			p.T.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.T.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		p.T.Fatal(err)
	}
	if resp.StatusCode != status {
		p.T.Fatalf("%s %s: %d %s, want %d", method, url, resp.StatusCode, got, status)
	}
	if out != nil {
		if err := json.Unmarshal(got, out); err != nil {
			p.T.Fatalf("%s %s: %s: %v", method, url, got, err)
		}
	}
}

// register registers an endpoint through the API.
func (p *pipeline) register(user uuid.UUID, url string) (id, secret string) {
	p.T.Helper()
	var endpoint struct{ ID, Secret string }
	p.call(user, "POST", p.webhooks+"/api/webhooks", `{"url":"`+url+`","events":["card.viewed","contact.saved"]}`, 201, &endpoint)
	return endpoint.ID, endpoint.Secret
}

type post struct {
	header http.Header
	body   []byte
}

// receiver is an endpoint: it fails the test if a body does not follow the schema of its type.
func receiver(t *testing.T, answer http.HandlerFunc) (url string, posts chan post) {
	t.Helper()
	catalog, err := eventtypes.Load("")
	if err != nil {
		t.Fatal(err)
	}
	posts = make(chan post, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		followsSchema(t, catalog, body)
		posts <- post{r.Header.Clone(), body}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, posts
}

// A log is the delivery log of an endpoint.
type log struct {
	Data []struct {
		ID, EventType, Status string
		EventID               string `json:"eventId"`
		ResponseCode          int
		Attempts              int
		Payload               json.RawMessage
	}
}

// awaitLog reads the delivery log until its newest row has a status.
func (p *pipeline) awaitLog(user uuid.UUID, endpointID, status string) (l log) {
	p.T.Helper()
	p.Await("delivery "+status, `SELECT EXISTS (SELECT FROM deliveries WHERE endpoint_id = $1 AND status = $2)`, endpointID, status)
	p.call(user, "GET", p.webhooks+"/api/webhooks/"+endpointID+"/deliveries", "", 200, &l)
	if len(l.Data) == 0 || l.Data[0].Status != status {
		p.T.Fatalf("log %+v, want its newest row %s", l, status)
	}
	return l
}

func TestACardIsViewedAndASignedPOSTArrives(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.deliver()
	url, posts := receiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	endpointID, secret := p.register(alice, url)

	p.call(uuid.Nil, "GET", p.views+"/api/u/alice/card/"+card.String(), "", 200, nil)
	got := <-posts
	wh, err := standardwebhooks.NewWebhook(signing.Whsec(secret))
	if err != nil {
		t.Fatal(err)
	}
	if err := wh.Verify(got.body, got.header); err != nil {
		t.Errorf("foreign library: %v", err)
	}
	if err := signing.VerifyDevCard(got.header, got.body, []string{secret}); err != nil {
		t.Errorf("X-DevCard-Signature: %v", err)
	}
	var body struct {
		Type string
		Data struct {
			CardID   string  `json:"cardId"`
			ViewerID *string `json:"viewerId"`
			Username string
			Source   string
		}
	}
	if err := json.Unmarshal(got.body, &body); err != nil {
		t.Fatal(err)
	}
	if body.Type != "card.viewed" || body.Data.CardID != card.String() || body.Data.ViewerID != nil || body.Data.Username != "alice" || body.Data.Source != "qr" {
		t.Errorf("body %s", got.body)
	}

	l := p.awaitLog(alice, endpointID, "success")
	if d := l.Data[0]; d.EventID != got.header.Get("Webhook-Id") || d.ResponseCode != 204 || d.Attempts != 1 || d.EventType != "card.viewed" {
		t.Errorf("log %+v", d)
	}
	if n := p.Count(`SELECT count(*) FROM attempts WHERE outcome = 'success' AND response_code = 204 AND finished_at >= started_at`); n != 1 {
		t.Errorf("%d attempts logged, want 1", n)
	}
	p.Await("view row", `SELECT count(*) = 1 FROM card_views WHERE card_id = $1 AND viewer_id IS NULL AND viewer_hash <> ''`, card)

	// The owner's own view is no event; bob's is, with his id. In order: if
	// alice's made a POST, it would come before bob's.
	p.call(alice, "GET", p.views+"/api/u/alice", "", 200, nil)
	p.call(bob, "GET", p.views+"/api/u/alice", "", 200, nil)
	if got := <-posts; !strings.Contains(string(got.body), `"viewerId":"`+bob.String()+`"`) || !strings.Contains(string(got.body), `"cardId":null`) {
		t.Errorf("body %s", got.body)
	}
	p.call(bob, "POST", p.views+"/api/cards/"+card.String()+"/save", "", 201, nil)
	if got := <-posts; !strings.Contains(string(got.body), `"type":"contact.saved"`) {
		t.Errorf("body %s", got.body)
	}
}

func TestAReceiverThatFailsTwiceGetsThreeAttemptsOfOneEvent(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.deliver()
	answers := make(chan int, 3)
	for _, code := range []int{500, 503, 200} {
		answers <- code
	}
	url, posts := receiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(<-answers) })
	endpointID, _ := p.register(alice, url)
	p.call(uuid.Nil, "GET", p.views+"/api/u/alice", "", 200, nil)

	l := p.awaitLog(alice, endpointID, "success")
	if l.Data[0].Attempts != 3 {
		t.Errorf("%d attempts in the log, want 3", l.Data[0].Attempts)
	}
	for range 3 {
		if got := (<-posts).header.Get("Webhook-Id"); got != l.Data[0].EventID {
			t.Errorf("webhook-id %s, want %s", got, l.Data[0].EventID)
		}
	}
	var delivery struct {
		AttemptLog []struct {
			N, ResponseCode       int
			StartedAt, FinishedAt time.Time
		}
	}
	p.call(alice, "GET", p.webhooks+"/api/webhooks/"+endpointID+"/deliveries/"+l.Data[0].ID, "", 200, &delivery)
	if len(delivery.AttemptLog) != 3 {
		t.Fatalf("attempts %+v, want 3", delivery.AttemptLog)
	}
	waits := deliverConfig("").Schedule
	for i, a := range delivery.AttemptLog {
		if i == 0 {
			continue
		}
		before := delivery.AttemptLog[i-1]
		if wait := a.StartedAt.Sub(before.FinishedAt); a.N != before.N+1 || wait < waits[i-1]-10*time.Millisecond {
			t.Errorf("attempt %d began %s after the one before ended, want at least %s", a.N, wait, waits[i-1])
		}
	}
}

// The deliverer is killed while a receiver has the request and has not
// answered: nothing is known of the POST but that it was begun.
func TestADelivererKilledBetweenPOSTAndSettle(t *testing.T) {
	t.Parallel()
	p := start(t)
	killed := make(chan struct{})
	url, posts := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-killed:
		case <-r.Context().Done(): // the connection died with its process
		}
	})
	endpointID, _ := p.register(alice, url)
	victim := p.spawnDeliverer()
	p.call(uuid.Nil, "GET", p.views+"/api/u/alice", "", 200, nil)
	<-posts
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	close(killed)
	// As if the lease had run out by now: tests don't wait for clocks.
	p.Exec(`UPDATE deliveries SET leased_until = now()`)

	p.spawnDeliverer()
	l := p.awaitLog(alice, endpointID, "success")
	if l.Data[0].Attempts != 2 {
		t.Errorf("%d attempts, want 2", l.Data[0].Attempts)
	}
	if n := p.Count(`SELECT count(*) FROM attempts WHERE (n = 1 AND outcome = 'interrupted') OR (n = 2 AND outcome = 'success')`); n != 2 {
		t.Error("the first attempt is not logged as interrupted, or the second not as success")
	}
	if got := (<-posts).header.Get("Webhook-Id"); got != l.Data[0].EventID {
		t.Errorf("webhook-id %s, want %s", got, l.Data[0].EventID)
	}
}

// printed is what a process has printed so far.
type printed struct {
	mu   sync.Mutex
	text strings.Builder
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// awaitPrinted waits until a process has printed something.
func (p *pipeline) awaitPrinted(cmd *exec.Cmd, what string) {
	p.T.Helper()
	deadline := time.Now().Add(steptest.Bound)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if strings.Contains(cmd.Stdout.(*printed).String(), what) {
			return
		}
		if time.Now().After(deadline) {
			p.T.Fatalf("it did not print %q", what)
		}
	}
}

// spawnDeliverer runs this test binary as a deliverer.
func (p *pipeline) spawnDeliverer() *exec.Cmd {
	p.T.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asDeliverer+"=1", "ENCRYPTION_KEYSET="+p.Serial,
		"NATS_URL="+p.Broker.URL("deliverer"), "DATABASE_URL="+p.DB.Config().ConnString())
	out := &printed{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		p.T.Fatal(err)
	}
	p.T.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if p.T.Failed() {
			p.T.Logf("deliverer printed:\n%s", out)
		}
	})
	return cmd
}
