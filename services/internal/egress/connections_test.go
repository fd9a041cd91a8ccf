package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// openConns counts the connections that a server has open, and the most it had.
type openConns struct {
	mu   sync.Mutex
	all  map[net.Conn]bool
	most int
	gone chan struct{} // one for each that is closed
}

func (o *openConns) state(c net.Conn, s http.ConnState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch s {
	case http.StateNew:
		o.all[c] = true
		o.most = max(o.most, len(o.all))
	case http.StateClosed:
		delete(o.all, c)
		o.gone <- struct{}{}
	}
}

func (o *openConns) count() (now, most int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.all), o.most
}

// everywhere starts one server that listens on many addresses of loopback, and
// returns their URLs.
func everywhere(t *testing.T, addresses int, h http.HandlerFunc) ([]string, *openConns) {
	t.Helper()
	o := &openConns{all: map[net.Conn]bool{}, gone: make(chan struct{}, 100_000)}
	srv := &http.Server{Handler: h, ConnState: o.state, ReadHeaderTimeout: time.Minute}
	var urls []string
	var serving sync.WaitGroup
	for n := range addresses {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.%d.%d:0", 1+n/250, 1+n%250))
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() { _ = srv.Serve(l) })
		urls = append(urls, "http://"+l.Addr().String()+"/")
	}
	t.Cleanup(func() { _ = srv.Close(); serving.Wait() })
	return urls, o
}

func TestAThousandReceiversLeaveABoundedNumberOfConnections(t *testing.T) {
	t.Parallel()
	const hosts, idle, senders = 1000, 100, 16
	urls, open := everywhere(t, hosts, func(http.ResponseWriter, *http.Request) {})
	g := newGuard(t, Config{AllowCIDRs: prefixes("127.0.0.0/8")})
	g.transport.plain.MaxIdleConns = idle
	client := g.Client(time.Minute)
	next := make(chan string, hosts)
	for _, url := range urls {
		next <- url
	}
	close(next)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for url := range next {
				exchange(t, client, url)
			}
		})
	}
	wg.Wait()
	for range hosts - idle { // all but the idle ones are closed, sooner or later
		<-open.gone
	}
	now, most := open.count()
	if now > idle {
		t.Errorf("%d connections are open, want at most %d", now, idle)
	}
	if most > hosts/2 { // idle+senders, and those whose close the server has yet to see
		t.Errorf("%d connections were open at once", most)
	}
	g.Close()
	for range now {
		<-open.gone
	}
}

func TestConnectionsToOneReceiverAreBounded(t *testing.T) {
	t.Parallel()
	const bound, senders = 4, 32
	urls, open := everywhere(t, 1, func(http.ResponseWriter, *http.Request) {})
	g := newGuard(t, Config{AllowCIDRs: prefixes("127.0.0.0/8"), MaxPerHost: bound})
	client := g.Client(time.Minute)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range 20 {
				exchange(t, client, urls[0])
			}
		})
	}
	wg.Wait()
	if now, most := open.count(); most > bound || now == 0 {
		t.Errorf("%d connections, at most %d at once, want 1 to %d", now, most, bound)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	urls, open := everywhere(t, 3, func(http.ResponseWriter, *http.Request) {})
	g := newGuard(t, Config{AllowCIDRs: prefixes("127.0.0.0/8")})
	if g.transport.plain.IdleConnTimeout != idleTimeout || g.transport.secure.IdleConnTimeout != idleTimeout {
		t.Error("idle connections stay open for good")
	}
	g.transport.plain.IdleConnTimeout = 10 * time.Millisecond
	for _, url := range urls {
		exchange(t, g.Client(time.Minute), url)
	}
	for range urls {
		<-open.gone
	}
}

// TestADialEndsWithItsRequest: net/http lets it go on, which with receivers that
// stall and short timeouts would be many connections for nobody.
func TestADialEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the backlog takes the connection; nobody answers the handshake
	g := newGuard(t, Config{AllowCIDRs: prefixes("127.0.0.0/8")})
	request, end := context.WithCancel(t.Context())
	request, _ = NewTrace(request)
	end()
	dial := context.WithoutCancel(request) // as net/http does
	if c, err := g.transport.plain.DialContext(dial, "tcp", l.Addr().String()); !errors.Is(err, context.Canceled) {
		t.Errorf("dial: %v, %v", c, err)
	}
	raw, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if c, err := handshake(dial, raw, l.Addr().String(), g.transport.secure.TLSClientConfig); !errors.Is(err, context.Canceled) {
		t.Errorf("handshake: %v, %v", c, err)
	}
}

func exchange(t *testing.T, client *http.Client, url string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}
