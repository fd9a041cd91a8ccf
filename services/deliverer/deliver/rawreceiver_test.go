package deliver_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A rawReceiver takes connections and does with them what HTTP servers don't.
type rawReceiver struct {
	url  string
	done chan struct{} // closed at the end of the test: nobody waits for longer

	mu    sync.Mutex
	posts map[string]int // seen whole, by webhook-id
	conns map[net.Conn]bool
}

// A behavior is what a receiver does with one connection. It is closed after.
type behavior func(r *rawReceiver, c net.Conn)

// hostile starts a receiver on loopback. With cfg, it speaks TLS.
func hostile(t testing.TB, cfg *tls.Config, do behavior) *rawReceiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rawReceiver{url: "http://" + l.Addr().String() + "/", done: make(chan struct{}), posts: map[string]int{}, conns: map[net.Conn]bool{}}
	if cfg != nil {
		r.url = "https://" + l.Addr().String() + "/"
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if cfg != nil {
				c = tls.Server(c, cfg)
			}
			r.hold(c, true)
			serving.Go(func() {
				defer func() { r.hold(c, false); _ = c.Close() }()
				do(r, c)
			})
		}
	})
	t.Cleanup(func() {
		close(r.done)
		_ = l.Close()
		r.mu.Lock()
		for c := range r.conns {
			_ = c.Close()
		}
		r.mu.Unlock()
		serving.Wait()
	})
	return r
}

func (r *rawReceiver) hold(c net.Conn, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if held {
		r.conns[c] = true
	} else {
		delete(r.conns, c)
	}
}

// read reads one POST whole and counts it.
func (r *rawReceiver) read(b *bufio.Reader) bool {
	req, err := http.ReadRequest(b)
	if err != nil {
		return false
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posts[req.Header.Get("Webhook-Id")]++
	return true
}

// seen returns how many POSTs came whole, and the most with one webhook-id.
func (r *rawReceiver) seen() (posts, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.posts {
		posts, most = posts+n, max(most, n)
	}
	return posts, most
}

// answer reads a POST and writes these bytes, whatever they are.
func answer(parts ...string) behavior {
	return func(r *rawReceiver, c net.Conn) {
		if r.read(bufio.NewReader(c)) {
			for _, part := range parts {
				if _, err := io.WriteString(c, part); err != nil {
					return
				}
			}
		}
	}
}

// thenHang does something and leaves the connection open.
func thenHang(do behavior) behavior {
	return func(r *rawReceiver, c net.Conn) {
		do(r, c)
		<-r.done
	}
}

// thenReset does something and resets the connection.
func thenReset(do behavior) behavior {
	return func(r *rawReceiver, c net.Conn) {
		do(r, c)
		if secure, ok := c.(*tls.Conn); ok {
			c = secure.NetConn()
		}
		_ = c.(*net.TCPConn).SetLinger(0)
	}
}

// thenFlood does something and sends a text without end.
func thenFlood(do behavior, text string) behavior {
	text = strings.Repeat(text, 1+4096/len(text))
	return func(r *rawReceiver, c net.Conn) {
		do(r, c)
		for {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

// thenDrip does something and sends a byte at a time, without end.
func thenDrip(do behavior) behavior {
	return func(r *rawReceiver, c net.Conn) {
		do(r, c)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.done:
				return
			case <-tick.C:
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
			}
		}
	}
}

func nothing(*rawReceiver, net.Conn) {}

// readSome reads the beginning of a POST.
func readSome(_ *rawReceiver, c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 16)) }

// keepAlive answers POST after POST on a connection, and calls after each what
// is to be done then; it goes on while that returns true.
func keepAlive(response string, after func(c net.Conn) bool) behavior {
	return func(r *rawReceiver, c net.Conn) {
		b := bufio.NewReader(c)
		for r.read(b) {
			if _, err := io.WriteString(c, response); err != nil || !after(c) {
				return
			}
		}
	}
}

// handshakeOnly makes TLS and nothing else; an error of the client's is no concern.
func handshakeOnly(_ *rawReceiver, c net.Conn) {
	if secure, ok := c.(*tls.Conn); ok {
		if err := secure.Handshake(); errors.Is(err, io.EOF) {
			return
		}
	}
}

func nothingMore(net.Conn) bool { return true }
