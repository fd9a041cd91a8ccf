package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

const (
	// dialTimeout bounds connecting to all addresses of a host together. Longer
	// than two SYN retransmissions (1 s and 3 s); the attempt's own timeout is
	// shorter or longer and ends it too.
	dialTimeout = 10 * time.Second
	// tlsTimeout bounds the handshake alone, so that a connection whose attempt
	// gave up does not linger in the background.
	tlsTimeout = 10 * time.Second
	// keepAlive is the interval of TCP probes, which notice a receiver that went
	// away behind a firewall without a word.
	keepAlive = 30 * time.Second

	// maxIdlePerHost is how many connections to one receiver are kept between
	// requests. Below the number of concurrent attempts to the busiest host (a gateway in
	// front of many tenants, the sample receiver under load) each POST beyond it pays
	// for a new connection, and used ports pile up in TIME_WAIT.
	maxIdlePerHost = 256
	// maxPerHost bounds connections to one receiver, those in use included: a
	// backstop behind the limits of whoever sends. As many as the attempts that a
	// deliverer makes at once by default, so that none waits for a connection
	// there: waiting counts as the receiver's time.
	maxPerHost = 512
	// maxIdle bounds file descriptors that do nothing, over all receivers and for
	// http and https each. Connections in use are bounded by whoever sends.
	maxIdle = 1024
	// idleTimeout is shorter than the 60 s or more after which common servers and
	// balancers close idle connections, so that we rarely write into a closing one.
	idleTimeout = 30 * time.Second

	// maxHeaderBytes bounds the response header, 1xx answers included.
	maxHeaderBytes = 32 << 10
)

// Client returns the client for all outbound requests. timeout bounds a whole
// exchange, reading the body included; 0 means that the request's context alone
// does. All clients of a guard share one pool of connections.
//
// It follows no redirect (a 3xx is returned as the response), asks for no
// compression and undoes none, ignores HTTP_PROXY and the like, keeps no cookies,
// and reads at most 32 KiB of response header. The body is the caller's to bound.
func (g *Guard) Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: g.transport,
		Timeout:   timeout,
		// A 302 becomes a GET without the body that then "succeeds", and a 307
		// carries body and signature to an address nobody registered.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A transport sends http and https requests through pools of their own. The
// dial hook sees an address and no scheme, and the rule depends on both.
type transport struct {
	plain, secure *http.Transport
}

func newTransport(g *Guard) *transport {
	return &transport{plain: g.httpTransport(true), secure: g.httpTransport(false)}
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Context().Value(traceKey{}) == nil { // it guards kept connections, too
		ctx, _ := NewTrace(r.Context())
		r = r.WithContext(ctx)
	}
	if r.URL.Scheme == "https" {
		return t.secure.RoundTrip(r)
	}
	return t.plain.RoundTrip(r) // the stricter rule; what is not http either, net/http refuses
}

// CloseIdleConnections is called by [http.Client.CloseIdleConnections].
func (t *transport) CloseIdleConnections() {
	t.plain.CloseIdleConnections()
	t.secure.CloseIdleConnections()
}

func (g *Guard) httpTransport(plain bool) *http.Transport {
	dialer := &net.Dialer{
		Timeout:        dialTimeout,
		KeepAlive:      keepAlive,
		Resolver:       g.resolver,
		ControlContext: g.hook(plain),
	}
	// HTTP/1.1 only, for these reasons (net/http of Go 1.26, h2_bundle.go):
	//   - Its HTTP/2 client sends a request with GetBody again, up to 6 times,
	//     after REFUSED_STREAM, after GOAWAY, and after a PROTOCOL_ERROR that the
	//     receiver sent, which it may well do once it has read the POST
	//     (canRetryError). An attempt would be several POSTs and one row.
	//   - One connection carries all POSTs to a host, of all tenants behind a
	//     shared gateway: when it breaks or stalls, they fail together, and one
	//     receiver's flow control holds the others' bodies.
	//   - Floods of SETTINGS, PING, CONTINUATION and resets cost us what they
	//     cost a server, and per attempt there is nothing to bound them by.
	// What it would save, handshakes, kept connections save as well.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	dial := g.dialNeutral(dialer)
	t := &http.Transport{
		Proxy:                  nil, // a proxy would be dialed in place of the receiver, past the hook
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		DisableCompression:     true, // 50 KB of gzip became 50 MB
		MaxConnsPerHost:        g.maxPerHost,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              protocols,
	}
	t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return handshake(ctx, raw, address, t.TLSClientConfig)
	}
	return t
}

// handshake makes a TLS connection of raw. net/http would do the same, but its
// errors are not told apart from those of HTTP.
func handshake(ctx context.Context, raw net.Conn, address string, cfg *tls.Config) (net.Conn, error) {
	trace, begun := traceOf(ctx), time.Now()
	ctx, release := trace.bound(ctx)
	defer release()
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	cfg = cfg.Clone()
	cfg.ServerName = address
	if host, _, err := net.SplitHostPort(address); err == nil {
		cfg.ServerName = host
	}
	secure := tls.Client(raw, cfg)
	err := secure.HandshakeContext(ctx)
	trace.handshaken(begun)
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	return secure, nil
}

// hook returns the check that the dialer calls with every numeric address, after
// the name is resolved and before anything is sent.
func (g *Guard) hook(plain bool) func(ctx context.Context, network, address string, _ syscall.RawConn) error {
	return func(ctx context.Context, network, address string, _ syscall.RawConn) error {
		trace := traceOf(ctx)
		trace.checked(ClassRefused)
		if network != "tcp4" && network != "tcp6" {
			return ErrRefused
		}
		addr, err := netip.ParseAddrPort(address)
		if err != nil {
			return ErrRefused
		}
		if err := g.check(addr, plain); err != nil {
			return err
		}
		trace.checked(g.class(addr.Addr()))
		return nil
	}
}

// class returns the class of an address that was not refused.
func (g *Guard) class(addr netip.Addr) string {
	if g.allowed(addr.Unmap()) {
		return ClassAllowed
	}
	return ClassPublic
}

// dialNeutral dials, and leaves of a refusal only [ErrRefused]: net would put the
// address that a name resolved to in front of it.
func (g *Guard) dialNeutral(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		trace, begun := traceOf(ctx), time.Now()
		ctx, cancel := trace.bound(ctx)
		defer cancel()
		c, err := d.DialContext(ctx, network, address)
		trace.connected(begun)
		if errors.Is(err, ErrRefused) {
			return nil, ErrRefused
		}
		if err != nil {
			return nil, err
		}
		class := ClassPublic
		if remote, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			class = g.class(remote.AddrPort().Addr())
		}
		return newConn(c, class), nil
	}
}
