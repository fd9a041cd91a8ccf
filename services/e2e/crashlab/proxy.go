package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A proxy stands between the services and something that they depend on, on a
// port of its own that stays the same, and does to connections what networks do.
type proxy struct {
	listener net.Listener
	mu       sync.Mutex
	network  string
	address  string // where connections go; empty: nowhere, they are closed
	delay    time.Duration
	frozen   bool // nothing goes through, and nobody is told
	tearing  bool // answers to a commit are kept back, and the connection closed
	conns    map[net.Conn]struct{}
	torn     int // answers kept back
	running  sync.WaitGroup
}

func newProxy() (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &proxy{listener: l, conns: make(map[net.Conn]struct{})}
	p.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(c) })
		}
	})
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// lead has new connections go to an address.
func (p *proxy) lead(network, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network, p.address = network, address
}

// set changes what is done to connections.
func (p *proxy) set(change func(*proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.cut()
	p.running.Wait()
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	network, address := p.network, p.address
	p.mu.Unlock()
	if address == "" {
		return
	}
	server, err := net.Dial(network, address)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client, false) })
	both.Go(func() { p.copy(client, server, true) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// frozenPoll is how often what is frozen looks whether it still is.
const frozenPoll = 20 * time.Millisecond

// copy copies one direction, until either side closes; then both are closed.
func (p *proxy) copy(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.pass(to, buf[:n], answers) {
			return
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) pass(to io.Writer, data []byte, answers bool) bool {
	for {
		p.mu.Lock()
		delay, frozen, tearing := p.delay, p.frozen, p.tearing && answers && committed(data)
		if tearing && !frozen {
			p.torn++
			p.tearing = p.torn%8 != 0 // each time a few
		}
		p.mu.Unlock()
		switch {
		case frozen:
			time.Sleep(frozenPoll)
			if p.gone(to) {
				return false
			}
			continue
		case tearing:
			return false
		}
		if delay > 0 {
			time.Sleep(delay)
		}
		_, err := to.Write(data)
		return err == nil
	}
}

// gone says whether a frozen connection was closed meanwhile.
func (p *proxy) gone(to io.Writer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.conns[to.(net.Conn)]
	return !ok
}

// committed says whether an answer of PostgreSQL tells of a commit: of the
// command itself, or of a statement that was a transaction by itself and
// changed something.
func committed(answer []byte) bool {
	for _, tag := range [][]byte{[]byte("COMMIT\x00"), []byte("INSERT 0 "), []byte("UPDATE "), []byte("SELECT ")} {
		if bytes.Contains(answer, tag) {
			return true
		}
	}
	return false
}
