// Package egress decides which addresses may be called and holds the one way
// out: every request to a URL that a stranger chose (deliveries, test events,
// replays) goes through [Guard.Client].
//
// What counts is the numeric address at the moment of dialing, for every
// address tried; names and earlier lookups are not trusted. [Guard.CheckURL]
// applies the same rule at registration, only to give a clear error early.
package egress

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"code.dny.dev/ssrf"
)

// ErrRefused is returned for every address or port that may not be called,
// wrapped in whatever the layers above add. It says the same in all cases, so
// that neither an error message nor the delivery log works as a port scanner:
// whoever shows it to a tenant shows this text alone.
var ErrRefused = errors.New("address is not allowed")

// ErrHandshake is in every error of a TLS handshake, with its cause: also when
// what answers speaks no TLS, or an older one than 1.2.
var ErrHandshake = errors.New("TLS handshake failed")

// A Config says what is allowed beyond the default: public addresses by https on
// the ports 443 and 80. The zero value is right for production.
type Config struct {
	// AllowCIDRs are exceptions, for development and private networks. An
	// address inside one of them may be called whatever it is, on any port and
	// by plain http too. Host bits of a prefix don't count, and an IPv4 one never
	// covers IPv6 addresses.
	AllowCIDRs []netip.Prefix
	// AllowHTTP permits plain http to every address that https may go to. Bodies
	// and signatures are then readable on the way.
	AllowHTTP bool
	// Ports are allowed besides 443 and 80.
	Ports []uint16
	// MaxPerHost bounds the connections to one host and port; 0 means 512. Who
	// comes when all are in use waits, within his own timeout.
	MaxPerHost int
}

// A Guard is the rule and the transport that enforces it. It is safe for
// concurrent use and holds idle connections until [Guard.Close].
type Guard struct {
	allow      []netip.Prefix
	maxPerHost int
	allowHTTP  bool
	ports      []uint16
	public     *ssrf.Guardian
	resolver   *net.Resolver
	transport  *transport
}

// New returns the guard for cfg. It reads the addresses of this machine's
// interfaces once, and refuses them like private ones: what listens here was not
// meant for tenants, whether its address is public or not.
func New(cfg Config) (*Guard, error) {
	g := &Guard{
		allowHTTP: cfg.AllowHTTP,
		ports:     slices.Concat([]uint16{443, 80}, cfg.Ports),
		// Go's resolver in place of libc's: lookups obey the context, block no
		// thread, and don't read 0177.1 or 2130706433 as addresses.
		resolver:   &net.Resolver{PreferGo: true},
		maxPerHost: cmp.Or(cfg.MaxPerHost, maxPerHost),
	}
	for _, p := range cfg.AllowCIDRs {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("allowed CIDR %v: must be an IPv4 or IPv6 prefix such as 127.0.0.0/8", p)
		}
		g.allow = append(g.allow, p)
	}
	own, err := ownAddresses()
	if err != nil {
		return nil, fmt.Errorf("read the addresses of this machine: %w", err)
	}
	g.public = publicOnly(own)
	g.transport = newTransport(g)
	return g, nil
}

// Close closes the idle connections. Those in use end with their requests.
func (g *Guard) Close() {
	g.transport.CloseIdleConnections()
}

// publicOnly returns the library's rule with the default lists, the addresses
// that they lack, and this machine's own. Ports are checked by the guard.
func publicOnly(own []netip.Prefix) *ssrf.Guardian {
	v4 := []netip.Prefix{
		netip.MustParsePrefix("168.63.129.16/32"), // Azure's host: metadata, DHCP, DNS; a public address
	}
	v6 := []netip.Prefix{
		netip.MustParsePrefix("3fff::/20"), // documentation (RFC 9637); the library has it since v0.3.0, earlier ones not
	}
	for _, p := range own {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(v4...), ssrf.WithDeniedV6Prefixes(v6...))
}

// ownAddresses returns the addresses of the network interfaces, as prefixes of
// one address each.
func ownAddresses() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var own []netip.Prefix
	for _, a := range addrs {
		network, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(network.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		own = append(own, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return own, nil
}

// check returns nil if addr may be called, and [ErrRefused] if not. plain is
// true for http without TLS. It is the one rule, for registration and dialing.
func (g *Guard) check(addr netip.AddrPort, plain bool) error {
	// Only the IPv4 form is looked at, however an address was spelled; one
	// with a zone is link-local, and no prefix contains it.
	ip := addr.Addr().Unmap()
	if g.allowed(ip) {
		return nil
	}
	if plain && !g.allowHTTP {
		return ErrRefused
	}
	if !slices.Contains(g.ports, addr.Port()) {
		return ErrRefused
	}
	if g.public.SafeAddr(ip) != nil {
		return ErrRefused
	}
	return nil
}

// allowed reports whether ip is inside one of the configured exceptions.
func (g *Guard) allowed(ip netip.Addr) bool {
	for _, p := range g.allow {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
