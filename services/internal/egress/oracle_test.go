package egress

import (
	"net/netip"
	"strings"
	"testing"
)

// denied is a second opinion on addresses: IANA's registries of special-purpose
// addresses and of IPv6 unicast space, read and written down apart from the
// library that the guard goes by.
var denied = prefixes(strings.Fields(`
	0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24
	192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
	168.63.129.16/32
	::/3 4000::/2 8000::/1
	2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20`)...)

func special(a netip.Addr) bool {
	if a.Zone() != "" {
		return true
	}
	a = a.Unmap()
	for _, p := range denied {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// FuzzHook: a URL that was accepted never leads to an address that must not be
// called, whatever its name resolves to; and what is neither special nor one of
// ours is let through.
func FuzzHook(f *testing.F) {
	for _, tt := range classes {
		addr := netip.MustParseAddr(tt.addr)
		f.Add("https://example.com/", addr.AsSlice())
		f.Add("http://example.com/", addr.AsSlice())
	}
	f.Add("https://10.0.0.1:8443/", []byte{93, 184, 215, 14})
	g := newGuard(f, Config{Ports: []uint16{8443}, AllowHTTP: true})
	own, err := ownAddresses()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string, answer []byte) {
		normalized, err := g.CheckURL(raw)
		if err != nil {
			return
		}
		u, err := parse(normalized)
		if err != nil {
			t.Fatalf("%q was accepted and does not parse: %v", normalized, err)
		}
		port, err := parsePort(u)
		if err != nil {
			t.Fatalf("%q was accepted and has no port: %v", normalized, err)
		}
		addr, err := netip.ParseAddr(u.Hostname())
		if err != nil { // a name: it leads wherever its owner likes
			var ok bool
			if addr, ok = netip.AddrFromSlice(answer); !ok {
				return
			}
		}
		err = g.hook(u.Scheme == "http")(t.Context(), "tcp6", netip.AddrPortFrom(addr, port).String(), nil)
		mine := special(addr)
		for _, p := range own {
			mine = mine || p.Contains(addr.Unmap())
		}
		if err == nil && mine {
			t.Fatalf("%q leads to %v", normalized, addr)
		}
		if err != nil && !mine {
			t.Fatalf("%q: %v is refused for no reason", normalized, addr)
		}
	})
}
