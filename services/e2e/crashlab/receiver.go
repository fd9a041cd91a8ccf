package main

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
	"github.com/cardwire/cardwire/services/internal/signing"
)

// A behaviour is how an endpoint's receiver answers.
type behaviour string

// The behaviours. Those that fail do so by a hash of the event, so that an
// event fares the same whenever it comes.
const (
	well    behaviour = "well"    // 204
	steady  behaviour = "steady"  // 204 after 300 ms
	slow    behaviour = "slow"    // 204 after up to 200 ms
	flaky   behaviour = "flaky"   // a fifth of the events fail once or twice
	dead    behaviour = "dead"    // 500, always
	doomed  behaviour = "doomed"  // a fiftieth of the events fail always
	hangs   behaviour = "hangs"   // a hundredth of the events get no answer at first
	outage  behaviour = "outage"  // no answer for a while
	departs behaviour = "departs" // 410 from some time on
	down    behaviour = "down"    // 500 until it is healed
)

// A target is an endpoint with its receiver's behaviour.
type target struct {
	id, user uuid.UUID
	name     uuid.UUID // the last part of its URL: the id, unless the API gave it that
	types    []string
	secret   string
	how      behaviour
	webhook  *standardwebhooks.Webhook
	mu       sync.Mutex
	further  []*standardwebhooks.Webhook // of secrets that the API answered to rotations
	from, to atomic.Int64                // Unix ns: when its outage is, or from when it is gone
	healed   atomic.Bool                 // it fails nobody any more: else its circuit would stay open for long
}

// newTarget makes an endpoint with a secret.
func newTarget(user uuid.UUID, how behaviour, types ...string) (*target, error) {
	t := &target{id: uuid.Must(uuid.NewV7()), user: user, types: types, secret: signing.NewSecret(), how: how}
	t.name = t.id
	var err error
	t.webhook, err = standardwebhooks.NewWebhook(signing.Whsec(t.secret))
	return t, err
}

// rotated takes a further secret that the endpoint has, and numbers it from 1.
func (t *target) rotated(secret string) (n int, err error) {
	w, err := standardwebhooks.NewWebhook(signing.Whsec(secret))
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.further = append(t.further, w)
	return len(t.further), nil
}

// verify says whether the first secret verifies a POST, and which of the further ones do.
func (t *target) verify(body []byte, header http.Header) (first bool, further []int) {
	t.mu.Lock()
	w, list := t.webhook, slices.Clone(t.further)
	t.mu.Unlock()
	for i, other := range list {
		if other.Verify(body, header) == nil {
			further = append(further, i+1)
		}
	}
	return w.Verify(body, header) == nil, further
}

// A receiver is all endpoints. It is part of the lab's own process, which no
// fault touches, and writes down each POST before it answers.
type receiver struct {
	journal *check.Journal
	mu      sync.Mutex
	targets map[uuid.UUID]*target // by name
	seen    map[[2]uuid.UUID]int  // POSTs of an event at an endpoint
	server  *http.Server
	url     string
}

func newReceiver(journal *check.Journal, targets []*target) (*receiver, error) {
	r := &receiver{journal: journal, targets: make(map[uuid.UUID]*target), seen: make(map[[2]uuid.UUID]int)}
	for _, t := range targets {
		r.targets[t.name] = t
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r.url = "http://" + l.Addr().String() + "/"
	r.server = &http.Server{Handler: http.HandlerFunc(r.post), ReadHeaderTimeout: time.Minute}
	go func() { _ = r.server.Serve(l) }() // until close
	return r, nil
}

// add has it be one more endpoint too.
func (r *receiver) add(t *target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.targets[t.name] = t
}

func (r *receiver) target(name uuid.UUID) *target {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.targets[name]
}

// close ends all connections and returns when the answers under way are written down.
func (r *receiver) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.server.Shutdown(ctx)
	_ = r.server.Close()
}

func (r *receiver) post(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // not all of it came: whoever sent it is dead
	}
	line := check.Received{BodyHash: check.Hash(body), At: time.Now()}
	endpoint, err1 := uuid.Parse(req.URL.Path[1:])
	event, err2 := uuid.Parse(req.Header.Get("webhook-id"))
	t := r.target(endpoint)
	if errors.Join(err1, err2) != nil || t == nil {
		r.journal.Write(line) // of no event: the checker objects
		http.Error(w, "no such endpoint", http.StatusNotFound)
		return
	}
	line.EndpointID, line.EventID = endpoint, event
	line.ReplayID, _ = uuid.Parse(req.Header.Get("webhook-replay")) // none has none
	line.Verified, line.Rotated = t.verify(body, req.Header)
	r.mu.Lock()
	r.seen[[2]uuid.UUID{event, endpoint}]++
	n := r.seen[[2]uuid.UUID{event, endpoint}]
	r.mu.Unlock()
	var wait time.Duration
	line.Status, wait = t.answer(event, n, line.At)
	line.Answered = line.At.Add(wait)
	r.journal.Write(line)
	if wait > 0 {
		select {
		case <-req.Context().Done():
		case <-time.After(wait):
		}
	}
	if line.Status == 0 {
		panic(http.ErrAbortHandler) // closes the connection
	}
	w.WriteHeader(line.Status)
}

// answer is what the n-th POST of an event gets at a time, and how long that
// takes. Status 0 is none.
func (t *target) answer(event uuid.UUID, n int, at time.Time) (status int, wait time.Duration) {
	const ok = http.StatusNoContent
	h := fnv.New32a()
	_, _ = h.Write(event[:])
	_, _ = h.Write(t.id[:])
	dice := h.Sum32()
	ns := at.UnixNano()
	switch t.how {
	case steady:
		return ok, 300 * time.Millisecond
	case slow:
		return ok, time.Duration(dice%200) * time.Millisecond
	case flaky:
		if dice%5 == 0 && n <= int(dice/5%2)+1 {
			return http.StatusServiceUnavailable, 0
		}
	case down:
		if !t.healed.Load() {
			return http.StatusInternalServerError, 0
		}
	case dead:
		return http.StatusInternalServerError, 0
	case doomed:
		if dice%50 == 0 && !t.healed.Load() {
			return http.StatusInternalServerError, 0
		}
	case hangs:
		if dice%100 == 0 && n == 1 {
			return 0, 2 * attemptTimeout
		}
	case outage:
		if from := t.from.Load(); from != 0 && ns >= from && ns < t.to.Load() {
			return 0, 0
		}
	case departs:
		if from := t.from.Load(); from != 0 && ns >= from {
			return http.StatusGone, 0
		}
	}
	return ok, 0
}
