package clientrate

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/cardwire/cardwire/services/internal/webjson"
)

// A Keyed limiter holds each of many to a rate, with a burst. It remembers a
// bounded number of them and forgets the one seen longest ago: who is forgotten
// starts again with a full burst, so that many can lift the limit for each other
// but never fill the memory. Limits are per process. It is safe for concurrent use.
type Keyed[K comparable] struct {
	perSecond rate.Limit
	burst     int
	clients   *lru.Cache[K, *rate.Limiter]
}

// NewKeyed returns a limiter that lets each key have perSecond requests per
// second on average, at most burst at once, and remembers that many keys (about
// 200 bytes each). All three must be positive.
func NewKeyed[K comparable](perSecond float64, burst, keys int) (*Keyed[K], error) {
	if !(perSecond > 0) || math.IsInf(perSecond, 1) || burst < 1 || keys < 1 {
		return nil, errors.New("rate limit: rate, burst and number of clients must be positive")
	}
	cache, err := lru.New[K, *rate.Limiter](keys)
	if err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	return &Keyed[K]{perSecond: rate.Limit(perSecond), burst: burst, clients: cache}, nil
}

// Allow says whether there may be a request with key now. If not, wait is how
// long until there may, and the refusal costs nothing.
func (l *Keyed[K]) Allow(key K, now time.Time) (wait time.Duration, ok bool) {
	limiter := l.of(key)
	if limiter.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - limiter.TokensAt(now)
	return max(0, time.Duration(missing/float64(l.perSecond)*float64(time.Second))), false
}

// of returns the limiter of one key, making it if need be.
func (l *Keyed[K]) of(key K) *rate.Limiter {
	if limiter, ok := l.clients.Get(key); ok {
		return limiter
	}
	fresh := rate.NewLimiter(l.perSecond, l.burst)
	if limiter, ok, _ := l.clients.PeekOrAdd(key, fresh); ok {
		return limiter // another request with the same key was first
	}
	return fresh
}

// A Limiter holds each client to a rate, see [Keyed]. A client is an IPv4 address
// or an IPv6 /64, since whoever has one address of a /64 has all of them.
type Limiter struct{ *Keyed[netip.Prefix] }

// New returns a limiter that lets each client make perSecond requests per second
// on average, at most burst at once, and remembers that many clients.
func New(perSecond float64, burst, clients int) (*Limiter, error) {
	l, err := NewKeyed[netip.Prefix](perSecond, burst, clients)
	return &Limiter{l}, err
}

// Allow says whether the client at addr may make a request now. If not, wait is
// how long until it may, and the refusal costs the client nothing. Clients without a
// valid address share one allowance.
func (l *Limiter) Allow(addr netip.Addr, now time.Time) (wait time.Duration, ok bool) {
	return l.Keyed.Allow(client(addr), now)
}

// client returns what counts as one client.
func client(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the zero Prefix if addr is invalid
	return p
}

// Handler answers 429 with Retry-After to clients beyond their rate, and passes
// all other requests to next. trusted are our own proxies, see [Addr].
func (l *Limiter) Handler(trusted []netip.Prefix, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait, ok := l.Allow(Addr(r, trusted), time.Now())
		if !ok {
			seconds := RetryAfter(wait)
			w.Header().Set("Retry-After", seconds)
			webjson.WriteError(w, http.StatusTooManyRequests, "too many requests: try again in "+seconds+" s")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// RetryAfter is a wait as the header Retry-After has it: whole seconds, not fewer.
func RetryAfter(wait time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(wait.Seconds()))))
}
