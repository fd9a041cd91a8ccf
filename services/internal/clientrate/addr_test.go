package clientrate

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAddr(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	tests := []struct {
		name      string
		peer      string
		forwarded []string // one per header line
		want      string   // "" means none
	}{
		{"no proxy", "203.0.113.7:1234", nil, "203.0.113.7"},
		{"no proxy, IPv6", "[2001:db8::7]:1234", nil, "2001:db8::7"},
		{"no proxy, IPv4 on an IPv6 socket", "[::ffff:203.0.113.7]:1234", nil, "203.0.113.7"},
		{"no proxy, with a zone", "[fe80::1%eth0]:1234", nil, "fe80::1"},
		{"a stranger's header is not believed", "203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7"},
		{"behind a proxy", "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"behind an IPv6 proxy", "[fd00::1]:1", []string{"2001:db8::9"}, "2001:db8::9"},
		{"behind a proxy on an IPv6 socket", "[::ffff:10.0.0.1]:1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"behind two proxies", "10.0.0.1:1", []string{"198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"what the client wrote stands left", "10.0.0.1:1", []string{"1.1.1.1, 2.2.2.2,198.51.100.1 ,10.0.0.2"}, "198.51.100.1"},
		{"the client claims to be a proxy", "10.0.0.1:1", []string{"10.9.9.9, 198.51.100.1"}, "198.51.100.1"},
		{"several header lines are one list", "10.0.0.1:1", []string{"1.1.1.1", "198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
		{"entry with a port", "10.0.0.1:1", []string{"198.51.100.1:555"}, "198.51.100.1"},
		{"IPv6 entry with a port", "10.0.0.1:1", []string{"[2001:db8::9]:555"}, "2001:db8::9"},
		{"IPv6 entry in brackets", "10.0.0.1:1", []string{"[2001:db8::9]"}, "2001:db8::9"},
		{"mapped entry", "10.0.0.1:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"nothing but proxies: the leftmost", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"no header", "10.0.0.1:1", nil, "10.0.0.1"},
		{"an empty header", "10.0.0.1:1", []string{""}, "10.0.0.1"},
		{"an entry that is no address ends the search", "10.0.0.1:1", []string{"198.51.100.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"an empty entry ends the search", "10.0.0.1:1", []string{"198.51.100.1, , 10.0.0.2"}, "10.0.0.2"},
		{"half a bracket", "10.0.0.1:1", []string{"[2001:db8::9"}, "10.0.0.1"},
		{"more proxies than there can be", "10.0.0.1:1", []string{"198.51.100.1" + strings.Repeat(",10.0.0.2", 40)}, "10.0.0.2"},
		{"a Unix socket", "@", []string{"198.51.100.1"}, ""},
		{"no peer", "", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tt.peer
			for _, value := range tt.forwarded {
				r.Header.Add("X-Forwarded-For", value)
			}
			var want netip.Addr
			if tt.want != "" {
				want = netip.MustParseAddr(tt.want)
			}
			if got := Addr(r, proxies); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestAddrIsNotForged: whatever the client writes into the header, it is known by the address
// from which it spoke to our outermost proxy.
func TestAddrIsNotForged(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	rapid.Check(t, func(t *rapid.T) {
		forged := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.StringMatching(`[0-9a-f.:,\[\] ]{0,40}`), rapid.Just("10.0.0.9")), 0, 5).Draw(t, "forged")
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.0.0.1:1"
		for _, line := range forged {
			r.Header.Add("X-Forwarded-For", line)
		}
		r.Header.Add("X-Forwarded-For", strings.Join(append(forged, "198.51.100.1", "10.0.0.2"), ","))
		if got := Addr(r, proxies); got != netip.MustParseAddr("198.51.100.1") {
			t.Fatalf("taken for %v", got)
		}
	})
}
