package deliver_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/internal/egress"
)

const plainOK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// TestNoAttemptIsMoreThanOnePOST: net/http may send a request again by itself if
// a kept connection turns out to be closed. It must do so only as long as the
// receiver has got nothing of it.
func TestNoAttemptIsMoreThanOnePOST(t *testing.T) {
	t.Parallel()
	reset := func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }
	for _, tt := range []struct {
		name string
		do   behavior
		// every is that the receiver reads each POST that is sent: it never closes
		// while one may be on its way.
		every bool
	}{
		{"answers and keeps the connection", keepAlive(plainOK, nothingMore), true},
		{"closes after each answer without saying so", keepAlive(plainOK, func(net.Conn) bool { return false }), false},
		{"resets after each answer", keepAlive(plainOK, func(c net.Conn) bool { reset(c); return false }), false},
		{"says that it closes", keepAlive("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", func(net.Conn) bool { return false }), true},
		{"reads the second POST and closes", onSecond(func(net.Conn) {}), true},
		{"reads the second POST and resets", onSecond(reset), true},
		{"reads the second POST and says 408", onSecond(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
		}), true},
		{"reads the second POST and breaks off in the header", onSecond(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 2") }), true},
		{"reads the second POST and asks for a redirect", onSecond(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 307 T\r\nConnection: close\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
		}), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := hostile(t, nil, tt.do)
			client := loopback(t).Client(0)
			const lines, each = 4, 50
			var successes, answered int
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range lines {
				wg.Go(func() {
					for range each {
						got := deliver.Post(t.Context(), client, try(r.url, 100), ample)
						mu.Lock()
						if got.Success {
							successes++
						}
						if got.Code != 0 {
							answered++
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			posts, most := r.seen()
			if most > 1 {
				t.Errorf("one attempt was %d POSTs", most)
			}
			if posts > lines*each || posts < answered || tt.every && posts != lines*each {
				t.Errorf("%d attempts, %d answers, %d POSTs", lines*each, answered, posts)
			}
			if successes == 0 {
				t.Error("no attempt succeeded: this shows nothing")
			}
		})
	}
}

// onSecond answers the first POST of a connection, and does something with the second.
func onSecond(do func(net.Conn)) behavior {
	return func(r *rawReceiver, c net.Conn) {
		b := bufio.NewReader(c)
		if !r.read(b) {
			return
		}
		if _, err := io.WriteString(c, plainOK); err == nil && r.read(b) {
			do(c)
		}
	}
}

// TestSurplusIsNoAnswer: whatever comes after an answer on a kept connection, in
// the same packet or later, does not answer the next POST.
func TestSurplusIsNoAnswer(t *testing.T) {
	t.Parallel()
	const forged = "HTTP/1.1 202 Forged\r\nContent-Length: 0\r\n\r\n"
	for _, tt := range []struct {
		name string
		tls  bool
		do   behavior
	}{
		{"in the same packet", false, keepAlive(plainOK+forged, nothingMore)},
		{"in the same packet, after an answer without a body", false, keepAlive("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"+forged, nothingMore)},
		{"in the same record", true, keepAlive(plainOK+forged, nothingMore)},
		{"in the body of a 204", false, keepAlive("HTTP/1.1 204 No Content\r\n\r\n"+forged, nothingMore)},
		{"beyond a length that is too short", false, keepAlive("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"+forged+forged, nothingMore)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := ca.serve(t, nil)
			if !tt.tls {
				cfg = nil
			}
			r := hostile(t, cfg, tt.do)
			// Two connections for eight lines of work: each that comes free is
			// handed straight to whoever waits.
			g, err := egress.New(egress.Config{AllowCIDRs: loopbackCIDRs, MaxPerHost: 2})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(g.Close)
			client := g.Client(0)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 50 {
						got := deliver.Post(t.Context(), client, try(r.url, 100), ample)
						if !got.Success || got.Code == http.StatusAccepted {
							t.Errorf("got %+v", got.Outcome)
							return
						}
					}
				})
			}
			wg.Wait()
			if posts, most := r.seen(); posts != 400 || most != 1 {
				t.Errorf("400 attempts were %d POSTs, at most %d of one", posts, most)
			}
		})
	}
}
