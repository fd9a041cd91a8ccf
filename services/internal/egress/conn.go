package egress

import (
	"errors"
	"net"
	"sync"
)

// A conn is a connection as the guard dialed it.
//
// It sees to it that what a receiver sends beyond an answer is never taken for
// the answer to the next request. net/http closes a connection on which
// something comes unasked, but it offers the connection to the next request
// before it looks: if that is quick, the surplus of one answer answers it, and a
// POST that nobody read counts as delivered.
type conn struct {
	net.Conn
	class string // of the address

	mu      sync.Mutex
	changed sync.Cond
	reading bool // somebody waits in Read: all that came before has been looked at
	quiet   bool // a request is about to be written, and nothing of it is: nothing may come
	unasked bool // something came all the same
	closed  bool
}

var errUnasked = errors.New("the receiver sent something unasked")

func newConn(c net.Conn, class string) *conn {
	own := &conn{Conn: c, class: class}
	own.changed.L = &own.mu
	return own
}

// begin waits until net/http has looked at all that came with the last answer.
// Its reading goroutine then waits in Read, or has closed the connection; it
// does either at once, as its last request has ended.
func (c *conn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.reading && !c.closed {
		c.changed.Wait()
	}
	c.quiet = true
}

func (c *conn) Read(b []byte) (int, error) {
	c.mu.Lock()
	c.reading = true
	c.changed.Broadcast()
	c.mu.Unlock()

	n, err := c.Conn.Read(b)

	c.mu.Lock()
	c.reading = false
	c.unasked = c.unasked || c.quiet && n > 0
	unasked := c.unasked
	c.mu.Unlock()
	if unasked {
		return 0, errUnasked // and net/http closes
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.quiet = false
	unasked := c.unasked
	c.mu.Unlock()
	if unasked {
		return 0, errUnasked // nothing was sent, so net/http takes another connection
	}
	return c.Conn.Write(b)
}

func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.Conn.Close()
}
