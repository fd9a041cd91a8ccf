package egress

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

func TestCheckURL(t *testing.T) {
	t.Parallel()
	var (
		none     Config
		loopback = Config{AllowCIDRs: prefixes("127.0.0.0/8")}
		plain    = Config{AllowHTTP: true}
	)
	const (
		https    = "url: must use https"
		refused  = "url: address is not allowed"
		badHost  = "url: host is neither a valid name nor an address"
		badURL   = "url: is not a valid URL"
		absolute = "url: must be absolute and start with https://"
		user     = "url: must not contain a user name or password"
		control  = "url: must not contain spaces or control characters"
		fragment = "url: must not have a fragment"
		badPort  = "url: port must be a number from 1 to 65535"
	)
	tests := []struct {
		name string
		cfg  Config
		raw  string
		want string // the normalized form, or the error if it begins with "url: "
	}{
		{"as it should be", none, "https://example.com/hooks?key=v%20w&x", "https://example.com/hooks?key=v%20w&x"},
		{"no path", none, "https://example.com", "https://example.com/"},
		{"query without a path", none, "https://example.com?a=b", "https://example.com/?a=b"},
		{"scheme and host in capitals", none, "HTTPS://Example.COM/Path", "https://example.com/Path"},
		{"default port", none, "https://example.com:443/", "https://example.com/"},
		{"default port with zeros", none, "https://example.com:00443/", "https://example.com/"},
		{"empty port", none, "https://example.com:/", "https://example.com/"},
		{"port 80 by https", none, "https://example.com:80/", "https://example.com:80/"},
		{"trailing dot", none, "https://example.com./", "https://example.com/"},
		{"international name in xn-- form", none, "https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"},
		{"underscore in a label", none, "https://my_app.example.com/", "https://my_app.example.com/"},
		{"name of one label", none, "https://receiver/", "https://receiver/"},
		{"path that is not clean is kept", none, "https://example.com//a/../b/./", "https://example.com//a/../b/./"},
		{"escapes in the path are kept", none, "https://example.com/a%2Fb%41", "https://example.com/a%2Fb%41"},
		{"public IPv4", none, "https://1.1.1.1/", "https://1.1.1.1/"},
		{"public IPv6", none, "https://[2606:4700:4700:0::1111]:443/", "https://[2606:4700:4700::1111]/"},
		{"public IPv6 with a port of the list", Config{Ports: []uint16{8443}}, "https://[2606:4700:4700::1111]:8443/", "https://[2606:4700:4700::1111]:8443/"},
		{"public IPv4 mapped into IPv6", none, "https://[::ffff:1.1.1.1]/", "https://1.1.1.1/"},
		{"a port of the list", Config{Ports: []uint16{8443}}, "https://example.com:8443/", "https://example.com:8443/"},
		{"plain http where it is on", plain, "http://example.com:80/a", "http://example.com/a"},
		{"plain http to a public address where it is on", plain, "http://1.1.1.1/", "http://1.1.1.1/"},
		{"loopback where it is allowed", loopback, "http://127.0.0.1:8080/hook", "http://127.0.0.1:8080/hook"},
		{"loopback by https where it is allowed", loopback, "https://127.0.0.1:1/", "https://127.0.0.1:1/"},
		{"mapped loopback where it is allowed", loopback, "http://[::ffff:7f00:1]:8080/", "http://127.0.0.1:8080/"},
		{"localhost where it is allowed", loopback, "http://localhost:9000/", "http://localhost:9000/"},
		{"localhost in capitals with a dot where it is allowed", loopback, "http://LOCALHOST.:9000/", "http://localhost:9000/"},

		{"empty", none, "", absolute},
		{"no scheme", none, "example.com/hook", absolute},
		{"no scheme but slashes", none, "//example.com/hook", absolute},
		{"a path", none, "/hook", absolute},
		{"ftp", none, "ftp://example.com/", absolute},
		{"file", none, "file:///etc/passwd", absolute},
		{"javascript", none, "javascript:alert(1)", absolute},
		{"gopher", none, "gopher://127.0.0.1:6379/_", absolute},
		{"opaque", none, "https:example.com", "url: must have a host"},
		{"one slash", none, "https:/example.com/", "url: must have a host"},
		{"no host", none, "https:///path", "url: must have a host"},
		{"no host but a port", none, "https://:443/", "url: must have a host"},
		{"user", none, "https://user@example.com/", user},
		{"user and password", none, "https://user:secret@example.com/", user},
		{"empty user", none, "https://@example.com/", user},
		{"user that looks like a host", none, "https://example.com@127.0.0.1/", user},
		{"fragment", none, "https://example.com/#top", fragment},
		{"empty fragment", none, "https://example.com/#", fragment},
		{"fragment that hides a host", none, "https://127.0.0.1#@example.com/", fragment},
		{"backslash before the at sign", none, `https://example.com\@127.0.0.1/`, badURL},
		{"backslash in the host", none, `https://127.0.0.1\.example.com/`, badURL},
		{"space", none, "https://example.com/a b", control},
		{"space in the host", none, "https://exa mple.com/", control},
		{"leading space", none, " https://example.com/", control},
		{"line end", none, "https://example.com/\r\nHost: 127.0.0.1", control},
		{"tab", none, "https://example\t.com/", control},
		{"NUL", none, "https://example.com/\x00", control},
		{"DEL", none, "https://example.com/\x7f", control},
		{"international name", none, "https://bücher.example/", "url: host must be ASCII; write an international name in its xn-- form"},
		{"international name percent-encoded", none, "https://b%C3%BCcher.example/", "url: host must be ASCII; write an international name in its xn-- form"},
		{"full-width digits", none, "https://１２７.0.0.1/", "url: host must be ASCII; write an international name in its xn-- form"},
		{"ideographic full stop", none, "https://127。0。0。1/", "url: host must be ASCII; write an international name in its xn-- form"},
		{"not ASCII in the path", none, "https://example.com/ü", "url: must be ASCII; percent-encode other characters in path and query"},
		{"bytes that are not UTF-8", none, "https://example.com/?\xff", "url: must be ASCII; percent-encode other characters in path and query"},
		{"bad escape", none, "https://example.com/%zz", badURL},
		{"escaped ASCII in the host", none, "https://ex%61mple.com/", badURL},
		{"too long", none, "https://example.com/" + strings.Repeat("a", MaxURLBytes-19), "url: must be at most 2048 bytes"},
		{"as long as it may be", none, "https://example.com/" + strings.Repeat("a", MaxURLBytes-20), "https://example.com/" + strings.Repeat("a", MaxURLBytes-20)},
		{"too long once escaped", none, "https://example.com/" + strings.Repeat("|", 1000), "url: must be at most 2048 bytes"},
		{"port 0", none, "https://example.com:0/", badPort},
		{"port too large", none, "https://example.com:65536/", badPort},
		{"port that wraps to 443", none, "https://example.com:65979/", badPort},
		{"negative port", none, "https://example.com:-443/", badURL},
		{"port that is a word", none, "https://example.com:https/", badURL},
		{"a port that is not listed", none, "https://example.com:8443/", "url: port 8443 is not allowed"},
		{"a port that is not listed, of a literal address", none, "https://1.1.1.1:22/", "url: port 22 is not allowed"},
		{"empty label", none, "https://example..com/", badHost},
		{"leading dot", none, "https://.example.com/", badHost},
		{"only a dot", none, "https://./", badHost},
		{"long label", none, "https://" + strings.Repeat("a", 64) + ".com/", badHost},
		{"long name", none, "https://" + strings.Repeat("a.", 127) + "com/", badHost},
		{"wildcard", none, "https://*.example.com/", badHost},
		{"quote in the host", none, "https://exa'mple.com/", badHost},
		{"name in brackets", none, "https://[example.com]/", badURL},
		{"IPv4 in brackets", none, "https://[127.0.0.1]/", badURL},
		{"unclosed bracket", none, "https://[::1/", badURL},
		{"IPv6 without brackets", none, "https://2606:4700::1111/", badURL},
		{"zone", none, "https://[fe80::1%25eth0]/", "url: an address must not have a zone"},

		{"http", none, "http://example.com/", https},
		{"http to a public address", none, "http://1.1.1.1/", https},
		{"http to a name where loopback is allowed", loopback, "http://example.com/", https},
		{"http to a private address", none, "http://10.0.0.1/", refused},
		{"loopback", none, "https://127.0.0.1/", refused},
		{"loopback IPv6", none, "https://[::1]/", refused},
		{"loopback IPv6 where only IPv4 loopback is allowed", loopback, "http://[::1]:8080/", refused},
		{"mapped loopback", none, "https://[::ffff:127.0.0.1]/", refused},
		{"mapped loopback in hex", none, "https://[::ffff:7f00:1]/", refused},
		{"loopback, written out", none, "https://[0000:0000:0000:0000:0000:0000:0000:0001]/", refused},
		{"localhost", none, "https://localhost/", refused},
		{"below localhost", none, "https://api.localhost/", refused},
		{"another private address where loopback is allowed", loopback, "http://192.168.0.1/", refused},
		{"metadata", none, "https://169.254.169.254/latest/meta-data", refused},
		{"metadata, where plain http is on", plain, "http://169.254.169.254/latest/meta-data", refused},
		{"Azure's host", none, "https://168.63.129.16/", refused},
		{"NAT64", none, "https://[64:ff9b::7f00:1]/", refused},
		{"6to4", none, "https://[2002:7f00:1::]/", refused},
		{"unspecified", none, "https://0.0.0.0/", refused},
		{"unspecified IPv6", none, "https://[::]/", refused},
		{"loopback as one number", none, "https://2130706433/", badHost},
		{"loopback in octal", none, "https://0177.0.0.1/", badHost},
		{"loopback in hex", none, "https://0x7f000001/", badHost},
		{"loopback in hex parts", none, "https://0x7f.0x0.0x0.0x1/", badHost},
		{"loopback in short", none, "https://127.1/", badHost},
		{"loopback with a trailing dot", none, "https://127.0.0.1./", badHost},
		{"loopback with leading zeros", none, "https://127.000.000.001/", badHost},
		{"five parts", none, "https://127.0.0.0.1/", badHost},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := newGuard(t, tt.cfg).CheckURL(tt.raw)
			if err != nil {
				if got != "" {
					t.Errorf("an error and %q", got)
				}
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if (got == refused) != errors.Is(err, ErrRefused) {
				t.Errorf("%v: wraps ErrRefused: %v", err, errors.Is(err, ErrRefused))
			}
		})
	}
}

func TestRegistrationAndDialingAgreeOnEachClass(t *testing.T) {
	t.Parallel()
	g := newGuard(t, Config{})
	for _, tt := range classes {
		addr := netip.MustParseAddr(tt.addr)
		if addr.Zone() != "" {
			continue
		}
		raw := (&url.URL{Scheme: "https", Host: netip.AddrPortFrom(addr, 443).String()}).String()
		if _, err := g.CheckURL(raw); (err == nil) != tt.allowed {
			t.Errorf("%s: CheckURL(%q) says %v", tt.name, raw, err)
		}
	}
}

// FuzzCheckURL: what is accepted at registration is stable, can be sent, and if
// its host is a literal address, the dial hook lets that very address through,
// which it only does if an oracle of our own has nothing against it.
func FuzzCheckURL(f *testing.F) {
	for _, tt := range classes {
		f.Add("https://" + netip.AddrPortFrom(netip.MustParseAddr(tt.addr), 443).String() + "/")
	}
	for _, raw := range []string{
		"http://127.0.0.1:8080/", "https://[::ffff:7f00:1]/", "https://0x7f.1/", "HTTPS://EXAMPLE.com.:0443?#", "https://a@b:1/%2f|",
		"http://localhost:1", "https://[fe80::1%25eth0]:443/", "https://example.com\\@10.0.0.1/",
	} {
		f.Add(raw)
	}
	g := newGuard(f, Config{AllowCIDRs: prefixes("127.0.0.0/8"), Ports: []uint16{8443}})
	f.Fuzz(func(t *testing.T, raw string) {
		normalized, err := g.CheckURL(raw)
		if err != nil {
			if len(err.Error()) > 100 {
				t.Errorf("an error of %d bytes quotes what it refuses", len(err.Error()))
			}
			return
		}
		if again, err := g.CheckURL(normalized); err != nil || again != normalized {
			t.Fatalf("%q became %q, and then %q, %v", raw, normalized, again, err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, normalized, nil)
		if err != nil {
			t.Fatalf("%q was accepted and can't be requested: %v", normalized, err)
		}
		addr, err := netip.ParseAddr(r.URL.Hostname())
		if err != nil {
			return // a name: decided when it is dialed
		}
		port := r.URL.Port()
		if port == "" {
			port = strconv.Itoa(int(defaultPort(r.URL.Scheme)))
		}
		dialed, err := netip.ParseAddrPort("[" + addr.String() + "]:" + port)
		if err != nil {
			dialed = netip.MustParseAddrPort(addr.String() + ":" + port)
		}
		if err := g.hook(r.URL.Scheme == "http")(t.Context(), "tcp4", dialed.String(), nil); err != nil {
			t.Fatalf("%q was accepted and %v is refused when dialed", normalized, dialed)
		}
		if special(addr) && !netip.MustParsePrefix("127.0.0.0/8").Contains(addr) {
			t.Fatalf("%q leads to the special address %v", normalized, addr)
		}
	})
}
