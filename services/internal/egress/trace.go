package egress

import (
	"context"
	"crypto/tls"
	"net/http/httptrace"
	"sync"
	"time"
)

// Classes of addresses: what the rule said of the one that was called.
const (
	ClassPublic  = "public"
	ClassAllowed = "allowed" // by Config.AllowCIDRs
	ClassRefused = "refused"
)

// A Timing is how a request's time was spent, and on what kind of address. What
// took place took at least a nanosecond: 0 is something that did not.
type Timing struct {
	DNS       time.Duration // looking the name up: not for a literal address nor on a kept connection
	Connect   time.Duration // from the first address tried to the connection, or to the end of trying: not on a kept one
	TLS       time.Duration // the handshake: not without TLS nor on a kept connection
	FirstByte time.Duration // from the request's last byte to the answer's first, if one came
	Class     string        // of the address, see the constants; empty if none was tried
}

// A Trace records the [Timing] of one request. A dial can go on after its request
// has ended, hence the lock.
type Trace struct {
	request context.Context // which the dial must not outlive, see [Trace.bound]

	mu     sync.Mutex
	timing Timing
	dns    time.Time // begun
	sent   time.Time // the request's last byte
	looked time.Time // the end of the lookup
}

type traceKey struct{}

// NewTrace returns a trace and the context that the request to record must have.
func NewTrace(ctx context.Context) (context.Context, *Trace) {
	t := &Trace{request: ctx}
	return httptrace.WithClientTrace(context.WithValue(ctx, traceKey{}, t), &httptrace.ClientTrace{
		DNSStart:             t.dnsStart,
		DNSDone:              t.dnsDone,
		GotConn:              t.gotConn,
		WroteRequest:         t.wroteRequest,
		GotFirstResponseByte: t.gotFirstByte,
	}), t
}

// traceOf returns the trace of a request's context, or one that nobody reads.
func traceOf(ctx context.Context) *Trace {
	if t, ok := ctx.Value(traceKey{}).(*Trace); ok {
		return t
	}
	return &Trace{request: ctx}
}

// bound returns ctx, ended also by the end of the request. net/http dials under a
// context that the request's end does not end, so that a later request can have
// the connection; with receivers that stall, it would be many for nobody.
func (t *Trace) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if t.request.Err() != nil {
		cancel()
	}
	stop := context.AfterFunc(t.request, cancel)
	return ctx, func() { stop(); cancel() }
}

// Timing returns what has been recorded until now.
func (t *Trace) Timing() Timing {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.timing
}

func (t *Trace) dnsStart(httptrace.DNSStartInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dns = time.Now()
}

func (t *Trace) dnsDone(httptrace.DNSDoneInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looked = time.Now()
	t.timing.DNS = max(1, t.looked.Sub(t.dns))
}

// connected is told when dialing ends, well or not. The lookup is part of it.
func (t *Trace) connected(begun time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.looked.After(begun) {
		begun = t.looked
	}
	t.timing.Connect = max(1, time.Since(begun))
}

func (t *Trace) handshaken(begun time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timing.TLS = max(1, time.Since(begun))
}

func (t *Trace) checked(class string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timing.Class = class
}

// gotConn is called before anything of the request is written. A kept
// connection is taken only once what came after the answer before would have
// shown, see [conn.begin].
func (t *Trace) gotConn(info httptrace.GotConnInfo) {
	c := ours(info.Conn)
	if c == nil {
		return
	}
	if info.Reused {
		c.begin()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timing.Class = c.class
	if info.Reused { // whatever was begun to dial meanwhile, this request did without
		t.timing.DNS, t.timing.Connect, t.timing.TLS = 0, 0, 0
	}
}

func (t *Trace) wroteRequest(httptrace.WroteRequestInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent = time.Now()
}

func (t *Trace) gotFirstByte() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timing.FirstByte = 1 // an answer may come before the request's end
	if !t.sent.IsZero() {
		t.timing.FirstByte = max(1, time.Since(t.sent))
	}
}

// ours returns the connection that the guard dialed, below TLS if there is TLS.
func ours(c interface{ Close() error }) *conn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	own, _ := c.(*conn)
	return own
}
