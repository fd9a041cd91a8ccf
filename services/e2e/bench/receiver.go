package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/signing"
)

// receiverCmd is this program as the receiver. It listens on several ports, as
// receivers that fare differently are different hosts. A path is
// /BEHAVIOUR/GROUP/NUMBER: what is counted together is a group, the number
// tells endpoints apart. The behaviour is fail (500), hang (no answer), or how
// long it takes until the 204 (0s).
type receiverCmd struct{}

// receiverStarted is the message of the line with the URLs of the ports.
const receiverStarted = "receiver started"

// receiverPorts is how many ports there are.
const receiverPorts = 3

// longest is the most that a histogram takes; what takes longer counts as that.
const longest = 10 * time.Minute

// newHistogram is of microseconds.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest.Microseconds(), 3) }

// record records how long something took.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(1, d.Microseconds()), longest.Microseconds()))
}

// A receipt is what must arrive once: an event at an endpoint.
type receipt struct {
	event    uuid.UUID
	endpoint uint32
}

// A group counts requests.
type group struct {
	seen  map[receipt]struct{}
	late  *hdrhistogram.Histogram // of first receipts, from the time that the event was due to be published
	posts int
	last  time.Time // of the newest first receipt
}

// tally is a group as JSON.
type tally struct {
	Posts    int                    `json:"posts"`
	Distinct int                    `json:"distinct"`
	Last     time.Time              `json:"last"`
	Late     *hdrhistogram.Snapshot `json:"late,omitempty"`
}

// A receiver counts what it gets.
type receiver struct {
	mu     sync.Mutex
	groups map[string]*group
}

// Run serves until the process is killed.
func (receiverCmd) Run(ctx context.Context) error {
	r := &receiver{groups: make(map[string]*group)}
	handler := r.handler()
	g, ctx := errgroup.WithContext(ctx)
	var urls []string
	for range receiverPorts {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		urls = append(urls, "http://"+l.Addr().String())
		server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
		g.Go(func() error { return server.Serve(l) })
		g.Go(func() error {
			<-ctx.Done()
			return server.Close()
		})
	}
	log := process.NewLogger(os.Stderr, "info")
	log.Info().Strs("urls", urls).Msg(receiverStarted)
	if err := g.Wait(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (r *receiver) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{behaviour}/{group}/{number}", r.post)
	mux.HandleFunc("GET /tally/{group}", r.tally)
	mux.HandleFunc("DELETE /tally", func(http.ResponseWriter, *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		clear(r.groups)
	})
	return mux
}

// post takes a request and behaves.
func (r *receiver) post(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	now := time.Now()
	if err != nil {
		return // no receipt
	}
	number, _ := strconv.ParseUint(req.PathValue("number"), 10, 32)
	event, err := uuid.Parse(req.Header.Get(signing.HeaderID))
	if err != nil {
		http.Error(w, "no "+signing.HeaderID, http.StatusBadRequest)
		return
	}
	r.count(req.PathValue("group"), receipt{event, uint32(number)}, body, now)
	switch behaviour := req.PathValue("behaviour"); behaviour {
	case "fail":
		w.WriteHeader(http.StatusInternalServerError)
		return
	case "hang":
		<-req.Context().Done()
		return
	default:
		pause, err := time.ParseDuration(behaviour)
		if err != nil {
			http.Error(w, "unknown behaviour", http.StatusBadRequest)
			return
		}
		time.Sleep(pause)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) count(name string, key receipt, body []byte, now time.Time) {
	due := dueIn(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[name]
	if g == nil {
		g = &group{seen: make(map[receipt]struct{}), late: newHistogram()}
		r.groups[name] = g
	}
	g.posts++
	if _, ok := g.seen[key]; ok {
		return
	}
	g.seen[key] = struct{}{}
	g.last = now
	record(g.late, now.Sub(due))
}

// tally answers with what a group has got; without ?late=1 quickly.
func (r *receiver) tally(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := tally{}
	if g := r.groups[req.PathValue("group")]; g != nil {
		t = tally{Posts: g.posts, Distinct: len(g.seen), Last: g.last}
		if req.FormValue("late") != "" {
			t.Late = g.late.Export()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(t)
}

const dueMember = `"due":"`

// dueIn finds when the event of a body was due to be published: the member due
// that the bench put there, or else the event's timestamp. It looks at the
// beginning only, as bodies may be large.
func dueIn(body []byte) time.Time {
	head := string(body[:min(len(body), 512)])
	if _, rest, ok := strings.Cut(head, dueMember); ok {
		text, _, _ := strings.Cut(rest, `"`)
		if ns, err := strconv.ParseInt(text, 10, 64); err == nil {
			return time.Unix(0, ns)
		}
	}
	if _, rest, ok := strings.Cut(head, `"timestamp":"`); ok {
		text, _, _ := strings.Cut(rest, `"`)
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return at
		}
	}
	return time.Time{} // counts as the longest
}
