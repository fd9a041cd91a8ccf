package egress

import (
	"context"
	"crypto/tls"
	"errors"
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
		Timeout:   dialTimeout,
		KeepAlive: keepAlive,
		// Go's resolver in place of libc's: lookups obey the context, block no
		// thread, and don't read 0177.1 or 2130706433 as addresses.
		Resolver:       &net.Resolver{PreferGo: true},
		ControlContext: g.hook(plain),
	}
	// HTTP/1.1 only for now. Under HTTP/2 one connection would carry all POSTs
	// to a host, so a receiver that stalls one stalls the rest, and its flow
	// control and resets are attack surface that is yet to be tested.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil, // a proxy would be dialed in place of the receiver, past the hook
		DialContext:            dialNeutral(dialer),
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    tlsTimeout,
		DisableCompression:     true, // 50 KB of gzip became 50 MB
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              protocols,
	}
}

// hook returns the check that the dialer calls with every numeric address, after
// the name is resolved and before anything is sent.
func (g *Guard) hook(plain bool) func(ctx context.Context, network, address string, _ syscall.RawConn) error {
	return func(_ context.Context, network, address string, _ syscall.RawConn) error {
		if network != "tcp4" && network != "tcp6" {
			return ErrRefused
		}
		addr, err := netip.ParseAddrPort(address)
		if err != nil {
			return ErrRefused
		}
		return g.check(addr, plain)
	}
}

// dialNeutral dials, and leaves of a refusal only [ErrRefused]: net would put the
// address that a name resolved to in front of it.
func dialNeutral(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if errors.Is(err, ErrRefused) {
			return nil, ErrRefused
		}
		return conn, err
	}
}
