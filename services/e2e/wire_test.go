package e2e

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A wire is what lies between two servers: a port that leads to the second, for
// the first alone. While it is cut nothing comes through, in neither direction,
// and nobody is told; what was sent meanwhile comes late, as by TCP.
type wire struct {
	address  string // where to connect
	to       string
	listener net.Listener
	mu       sync.Mutex
	healed   *sync.Cond
	cut      bool
	closed   bool
	conns    []net.Conn
	running  sync.WaitGroup
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: l.Addr().String(), to: to, listener: l}
	w.healed = sync.NewCond(&w.mu)
	w.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { w.lead(c) })
		}
	})
	t.Cleanup(w.close)
	return w
}

// set cuts the wire, or heals it.
func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	w.healed.Broadcast()
}

// pass returns once the wire is whole; open says that it is not closed.
func (w *wire) pass() (open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.cut && !w.closed {
		w.healed.Wait()
	}
	return !w.closed
}

func (w *wire) lead(from net.Conn) {
	defer from.Close()
	if !w.pass() {
		return
	}
	to, err := net.DialTimeout("tcp", w.to, time.Second)
	if err != nil {
		return
	}
	defer to.Close()
	w.mu.Lock()
	w.conns = append(w.conns, from, to)
	closed := w.closed
	w.mu.Unlock()
	if closed {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { w.copy(to, from) })
	both.Go(func() { w.copy(from, to) })
	both.Wait()
}

// copy copies one direction until either side closes; then both are closed.
func (w *wire) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if !w.pass() {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	w.healed.Broadcast()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.mu.Unlock()
	_ = w.listener.Close()
	w.running.Wait()
}
