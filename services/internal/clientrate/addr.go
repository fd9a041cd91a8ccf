// Package clientrate says which client a request comes from, and holds each
// client to a rate.
package clientrate

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxHops is how many entries of X-Forwarded-For are looked at. Nobody stands
// behind more proxies of ours; a header that names more is made up.
const maxHops = 32

// Addr returns the address of the client that sent r: the peer of the connection,
// or, if that is one of our proxies, the rightmost address in X-Forwarded-For that is
// none of them. What stands further left was written by the client and is not
// believed. An entry that is no address ends the search at the last proxy. IPv4
// addresses come in their IPv4 form, and zones are dropped. The result is invalid
// if the peer has no address (a Unix socket).
func Addr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	client := parse(r.RemoteAddr)
	values := r.Header.Values("X-Forwarded-For")
	hops := 0
	for _, value := range slices.Backward(values) {
		for more := true; more; hops++ {
			if hops == maxHops || !contains(trusted, client) {
				return client
			}
			var entry string
			if i := strings.LastIndexByte(value, ','); i >= 0 {
				value, entry = value[:i], value[i+1:]
			} else {
				entry, more = value, false
			}
			addr := parse(strings.TrimSpace(entry))
			if !addr.IsValid() {
				return client
			}
			client = addr
		}
	}
	return client
}

// parse takes an address, or an address with a port; IPv6 may stand in brackets.
func parse(s string) netip.Addr {
	if addrPort, err := netip.ParseAddrPort(s); err == nil {
		return addrPort.Addr().Unmap().WithZone("")
	}
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		s = s[1 : len(s)-1]
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
