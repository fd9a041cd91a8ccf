package egress

import (
	"errors"
	"net/netip"
	"testing"
)

// classes are addresses and whether the zero Config lets them be called by https
// on port 443. Nothing here is ever connected to.
var classes = []struct {
	name    string
	addr    string
	allowed bool
}{
	{"public IPv4", "93.184.215.14", true},
	{"public IPv4, low", "1.1.1.1", true},
	{"public IPv4, the last before multicast", "223.255.255.255", true},
	{"public IPv4, just below 10/8", "9.255.255.255", true},
	{"public IPv4, just above 10/8", "11.0.0.0", true},
	{"public IPv4, just below 100.64/10", "100.63.255.255", true},
	{"public IPv4, just above 100.64/10", "100.128.0.0", true},
	{"public IPv4, just above 172.16/12", "172.32.0.0", true},
	{"public IPv4, just above 198.18/15", "198.20.0.0", true},
	{"public IPv4, beside Azure's host", "168.63.129.17", true},
	{"public IPv4 mapped into IPv6", "::ffff:1.1.1.1", true},
	{"public IPv6", "2606:4700:4700::1111", true},
	{"public IPv6, just above 2001::/23", "2001:200::1", true},
	{"public IPv6, just above documentation", "2001:db9::1", true},
	{"public IPv6, just below documentation 3fff::/20", "3ffe:ffff::1", true},
	{"public IPv6, just above documentation 3fff::/20", "3fff:1000::1", true},
	{"unspecified", "0.0.0.0", false},
	{"this network", "0.1.2.3", false},
	{"private 10/8", "10.0.0.1", false},
	{"private 172.16/12, first", "172.16.0.0", false},
	{"private 172.16/12, last", "172.31.255.255", false},
	{"private 192.168/16", "192.168.1.1", false},
	{"shared address space", "100.64.0.1", false},
	{"metadata of Alibaba, inside shared address space", "100.100.100.200", false},
	{"loopback", "127.0.0.1", false},
	{"loopback, last", "127.255.255.255", false},
	{"link-local", "169.254.1.1", false},
	{"metadata of most clouds", "169.254.169.254", false},
	{"metadata of AWS containers", "169.254.170.2", false},
	{"IETF protocol assignments, metadata of Oracle", "192.0.0.192", false},
	{"documentation 1", "192.0.2.1", false},
	{"documentation 2", "198.51.100.1", false},
	{"documentation 3", "203.0.113.1", false},
	{"6to4 relays", "192.88.99.1", false},
	{"benchmarking", "198.19.255.255", false},
	{"multicast", "224.0.0.1", false},
	{"multicast, last", "239.255.255.255", false},
	{"reserved 240/4", "240.0.0.1", false},
	{"broadcast", "255.255.255.255", false},
	{"Azure's host", "168.63.129.16", false},
	{"unspecified IPv6", "::", false},
	{"loopback IPv6", "::1", false},
	{"loopback mapped into IPv6", "::ffff:127.0.0.1", false},
	{"metadata mapped into IPv6", "::ffff:169.254.169.254", false},
	{"Azure's host mapped into IPv6", "::ffff:168.63.129.16", false},
	{"loopback as IPv4-compatible IPv6", "::127.0.0.1", false},
	{"loopback by NAT64", "64:ff9b::7f00:1", false},
	{"loopback by local NAT64", "64:ff9b:1::7f00:1", false},
	{"loopback by 6to4", "2002:7f00:1::", false},
	{"loopback by Teredo", "2001:0:7f00:1::", false},
	{"discard", "100::1", false},
	{"unique local", "fd00::1", false},
	{"metadata of AWS by IPv6", "fd00:ec2::254", false},
	{"link-local IPv6", "fe80::1", false},
	{"link-local IPv6 with a zone", "fe80::1%eth0", false},
	{"public IPv6 with a zone", "2606:4700:4700::1111%eth0", false},
	{"site-local IPv6", "fec0::1", false},
	{"multicast IPv6", "ff02::1", false},
	{"documentation IPv6", "2001:db8::1", false},
	{"documentation IPv6 of 2024", "3fff::1", false},
	{"documentation IPv6 of 2024, last", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", false},
	{"segment routing", "5f00::1", false},
	{"beyond global unicast", "4000::1", false},
}

func TestHookClassifiesAddresses(t *testing.T) {
	t.Parallel()
	g := newGuard(t, Config{})
	for _, tt := range classes {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := netip.AddrPortFrom(netip.MustParseAddr(tt.addr), 443).String()
			for _, network := range []string{"tcp4", "tcp6"} {
				err := g.hook(false)(t.Context(), network, address, nil)
				if tt.allowed && err != nil {
					t.Errorf("%s %s: refused", network, address)
				}
				if !tt.allowed && err != ErrRefused { // exactly this error, with nothing around it
					t.Errorf("%s %s: got %v, want ErrRefused alone", network, address, err)
				}
			}
			if err := g.hook(true)(t.Context(), "tcp4", address, nil); !errors.Is(err, ErrRefused) {
				t.Errorf("plain http to %s: %v", address, err)
			}
		})
	}
}

func TestHook(t *testing.T) {
	t.Parallel()
	exceptions := prefixes("127.0.0.0/8", "10.1.2.3/16", "fd00::/8", "168.63.129.16/32")
	tests := []struct {
		name    string
		cfg     Config
		network string // "" means tcp4
		address string
		plain   bool
		allowed bool
	}{
		{name: "port 443", address: "1.1.1.1:443", allowed: true},
		{name: "port 80 by https", address: "1.1.1.1:80", allowed: true},
		{name: "another port", address: "1.1.1.1:22"},
		{name: "another port that is listed", cfg: Config{Ports: []uint16{8443}}, address: "1.1.1.1:8443", allowed: true},
		{name: "the list adds to the usual ports", cfg: Config{Ports: []uint16{8443}}, address: "1.1.1.1:443", allowed: true},
		{name: "a listed port opens no private address", cfg: Config{Ports: []uint16{8443}}, address: "10.0.0.1:8443"},
		{name: "plain http", address: "1.1.1.1:80", plain: true},
		{name: "plain http where it is on", cfg: Config{AllowHTTP: true}, address: "1.1.1.1:80", plain: true, allowed: true},
		{name: "plain http where it is on opens no private address", cfg: Config{AllowHTTP: true}, address: "10.0.0.1:80", plain: true},
		{name: "plain http where it is on opens no port", cfg: Config{AllowHTTP: true}, address: "1.1.1.1:25", plain: true},
		{name: "inside an allowed CIDR: any port", cfg: Config{AllowCIDRs: exceptions}, address: "127.0.0.1:1", allowed: true},
		{name: "inside an allowed CIDR: plain http", cfg: Config{AllowCIDRs: exceptions}, address: "127.9.9.9:8080", plain: true, allowed: true},
		{name: "inside an allowed CIDR given with host bits", cfg: Config{AllowCIDRs: exceptions}, address: "10.1.255.1:443", allowed: true},
		{name: "inside an allowed IPv6 CIDR", cfg: Config{AllowCIDRs: exceptions}, network: "tcp6", address: "[fd12::1]:8080", allowed: true},
		{name: "inside an allowed CIDR, mapped into IPv6", cfg: Config{AllowCIDRs: exceptions}, network: "tcp6", address: "[::ffff:127.0.0.1]:8080", allowed: true},
		{name: "an exception stands above the known gaps", cfg: Config{AllowCIDRs: exceptions}, address: "168.63.129.16:80", allowed: true},
		{name: "beside an allowed CIDR", cfg: Config{AllowCIDRs: exceptions}, address: "10.2.0.1:443"},
		{name: "an exception opens nothing else", cfg: Config{AllowCIDRs: exceptions}, network: "tcp6", address: "[::1]:443"},
		{name: "an allowed IPv4 CIDR of everything covers no IPv6", cfg: Config{AllowCIDRs: prefixes("0.0.0.0/0")}, network: "tcp6", address: "[::1]:443"},
		{name: "udp", network: "udp4", address: "1.1.1.1:443"},
		{name: "a unix socket", network: "unix", address: "/tmp/socket"},
		{name: "not an address", address: "localhost:443"},
		{name: "no port", address: "1.1.1.1"},
		{name: "nothing", address: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			network := tt.network
			if network == "" {
				network = "tcp4"
			}
			err := newGuard(t, tt.cfg).hook(tt.plain)(t.Context(), network, tt.address, nil)
			if tt.allowed && err != nil {
				t.Errorf("refused: %v", err)
			}
			if !tt.allowed && !errors.Is(err, ErrRefused) {
				t.Errorf("got %v, want ErrRefused", err)
			}
		})
	}
}

func TestOwnAddressesAreRefusedEvenIfPublic(t *testing.T) {
	t.Parallel()
	public := publicOnly(prefixes("93.184.215.14/32", "2606:4700:4700::1111/128"))
	for _, own := range []string{"93.184.215.14", "2606:4700:4700::1111"} {
		if public.SafeAddr(netip.MustParseAddr(own)) == nil {
			t.Errorf("%s is this machine and was allowed", own)
		}
	}
	if err := public.SafeAddr(netip.MustParseAddr("93.184.215.15")); err != nil {
		t.Errorf("the address next to ours: %v", err)
	}
}

func TestNewRefusesMeaninglessCIDRs(t *testing.T) {
	t.Parallel()
	for _, p := range []netip.Prefix{{}, netip.PrefixFrom(netip.MustParseAddr("::ffff:127.0.0.0"), 104)} {
		if _, err := New(Config{AllowCIDRs: []netip.Prefix{p}}); err == nil {
			t.Errorf("accepted %v, which would never match", p)
		}
	}
}

func newGuard(t testing.TB, cfg Config) *Guard {
	t.Helper()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func prefixes(s ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, one := range s {
		p = append(p, netip.MustParsePrefix(one))
	}
	return p
}
