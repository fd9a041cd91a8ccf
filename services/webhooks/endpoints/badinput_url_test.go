package endpoints

import (
	"strings"
	"testing"

	"github.com/cardwire/cardwire/sql/pgtest"
)

// TestBadURLs registers what must not be called, in every spelling we know of.
// Package egress tests the rule; here it counts that a registration is held to it.
func TestBadURLs(t *testing.T) {
	t.Parallel()
	s := serverSet(t, pgtest.New(t), func(c *Config) { c.AllowCIDRs = nil }) // no exceptions: as in production
	const (
		address = "url: address is not allowed"
		host    = "url: host is neither a valid name nor an address"
		ascii   = "url: host must be ASCII; write an international name in its xn-- form"
		control = "url: must not contain spaces or control characters"
		user    = "url: must not contain a user name or password"
		part    = "url: must not have a fragment"
		scheme  = "url: must be absolute and start with https://"
		noHost  = "url: must have a host"
		bad     = "url: is not a valid URL"
		port    = "url: port must be a number from 1 to 65535"
	)
	var rows []refusal
	for _, tt := range []struct{ name, url, sentence string }{
		{"loopback is refused", "https://127.0.0.1/", address},
		{"loopback is refused up to its end", "https://127.255.255.254/", address},
		{"loopback is refused with its default port", "https://127.0.0.1:443/", address},
		{"loopback is refused by http", "http://127.0.0.1/", address},
		{"loopback is refused by its name", "https://localhost/", address},
		{"loopback is refused by its name in capitals with a dot", "https://LOCALHOST./", address},
		{"loopback is refused by a name below localhost", "https://api.localhost/", address},
		{"loopback of IPv6 is refused", "https://[::1]/", address},
		{"loopback of IPv6 is refused written out", "https://[0000:0000:0000:0000:0000:0000:0000:0001]/", address},
		{"loopback is refused mapped into IPv6", "https://[::ffff:127.0.0.1]/", address},
		{"loopback is refused mapped into IPv6 in hex", "https://[::FFFF:7F00:1]/", address},
		{"loopback is refused in the old IPv4-compatible form", "https://[::127.0.0.1]/", address},
		{"loopback is refused translated", "https://[::ffff:0:127.0.0.1]/", address},
		{"private 10/8 is refused", "https://10.0.0.1/", address},
		{"private 10/8 is refused up to its end", "https://10.255.255.255/", address},
		{"private 172.16/12 is refused", "https://172.16.0.1/", address},
		{"private 172.16/12 is refused up to its end", "https://172.31.255.255/", address},
		{"private 192.168/16 is refused", "https://192.168.0.1/", address},
		{"private 192.168/16 is refused mapped", "https://[::ffff:192.168.0.1]/", address},
		{"private 192.168/16 is refused mapped in hex", "https://[::ffff:c0a8:1]/", address},
		{"link-local is refused", "https://169.254.1.1/", address},
		{"link-local of IPv6 is refused", "https://[fe80::1]/", address},
		{"link-local of IPv6 is refused up to its end", "https://[febf::1]/", address},
		{"site-local is refused", "https://[fec0::1]/", address},
		{"metadata of most clouds is refused", "https://169.254.169.254/latest/meta-data/", address},
		{"metadata of most clouds is refused by http", "http://169.254.169.254/latest/meta-data/", address},
		{"metadata of most clouds is refused mapped", "https://[::ffff:a9fe:a9fe]/", address},
		{"metadata of AWS containers is refused", "https://169.254.170.2/v2/credentials/", address},
		{"metadata of AWS by IPv6 is refused", "https://[fd00:ec2::254]/", address},
		{"metadata of Azure is refused", "https://168.63.129.16/", address},
		{"metadata of Azure is refused mapped", "https://[::ffff:168.63.129.16]/", address},
		{"metadata of Azure is refused mapped in hex", "https://[::ffff:a83f:8110]/", address},
		{"metadata of Alibaba is refused", "https://100.100.100.200/", address},
		{"metadata of Oracle is refused", "https://192.0.0.192/", address},
		{"carrier-grade NAT is refused", "https://100.64.0.1/", address},
		{"carrier-grade NAT is refused up to its end", "https://100.127.255.255/", address},
		{"multicast is refused", "https://224.0.0.1/", address},
		{"multicast is refused up to its end", "https://239.255.255.255/", address},
		{"multicast of IPv6 is refused", "https://[ff02::1]/", address},
		{"multicast of IPv6 is refused of global scope", "https://[ff0e::1]/", address},
		{"reserved 240/4 is refused", "https://240.0.0.1/", address},
		{"broadcast is refused", "https://255.255.255.255/", address},
		{"the unspecified address is refused", "https://0.0.0.0/", address},
		{"this network is refused", "https://0.1.2.3/", address},
		{"the unspecified address of IPv6 is refused", "https://[::]/", address},
		{"the unspecified address is refused mapped", "https://[::ffff:0.0.0.0]/", address},
		{"NAT64 of a private address is refused", "https://[64:ff9b::10.0.0.1]/", address},
		{"NAT64 of a private address is refused in hex", "https://[64:ff9b::a00:1]/", address},
		{"NAT64 of a public address is refused", "https://[64:ff9b::1.1.1.1]/", address},
		{"NAT64 of a network's own is refused", "https://[64:ff9b:1::a00:1]/", address},
		{"6to4 of a private address is refused", "https://[2002:a00:1::]/", address},
		{"6to4 of a public address is refused", "https://[2002:101:101::1]/", address},
		{"6to4 relays are refused", "https://192.88.99.1/", address},
		{"Teredo is refused", "https://[2001::1]/", address},
		{"Teredo is refused with its server and client", "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/", address},
		{"unique local is refused", "https://[fc00::1]/", address},
		{"unique local is refused up to its end", "https://[fdff:ffff::1]/", address},
		{"documentation 1 is refused", "https://192.0.2.1/", address},
		{"documentation 2 is refused", "https://198.51.100.1/", address},
		{"documentation 3 is refused", "https://203.0.113.1/", address},
		{"documentation of IPv6 is refused", "https://[2001:db8::1]/", address},
		{"documentation of IPv6 of 2024 is refused", "https://[3fff::1]/", address},
		{"documentation of IPv6 of 2024 is refused up to its end", "https://[3fff:fff:ffff::1]/", address},
		{"benchmarking is refused", "https://198.18.0.1/", address},
		{"benchmarking of IPv6 is refused", "https://[2001:2::1]/", address},
		{"identifiers of ORCHID are refused", "https://[2001:20::1]/", address},
		{"discard-only is refused", "https://[100::1]/", address},
		{"segment routing is refused", "https://[5f00::1]/", address},
		{"what is no global unicast is refused", "https://[4000::1]/", address},

		{"an address as one number is no host", "https://2130706433/", host},
		{"an address as one octal number is no host", "https://017700000001/", host},
		{"an address as one hex number is no host", "https://0x7f000001/", host},
		{"an address in capital hex is no host", "https://0X7F000001/", host},
		{"an address with an octal part is no host", "https://0177.0.0.1/", host},
		{"an address with hex parts is no host", "https://0x7f.0x0.0x0.0x1/", host},
		{"an address with a hex part at its end is no host", "https://127.0.0.0x1/", host},
		{"an address of mixed parts is no host", "https://0xa.0.1/", host},
		{"an address of two parts is no host", "https://127.1/", host},
		{"an address of three parts is no host", "https://10.0.1/", host},
		{"an address of five parts is no host", "https://10.0.0.0.1/", host},
		{"an address with leading zeros is no host", "https://010.000.000.001/", host},
		{"an address beyond 255 is no host", "https://256.0.0.1/", host},
		{"an address with a trailing dot is no host", "https://10.0.0.1./", host},
		{"a number with a trailing dot is no host", "https://2130706433./", host},
		{"an address percent-encoded is no URL", "https://%31%30.0.0.1/", bad},
		{"a host percent-encoded is no URL", "https://%6cocalhost/", bad},
		{"a host with a NUL percent-encoded is no URL", "https://localhost%00.example.com/", bad},
		{"an address in full-width digits is not ASCII", "https://１０.0.0.1/", ascii},
		{"an address with ideographic stops is not ASCII", "https://10。0。0。1/", ascii},
		{"an address in circled digits is not ASCII", "https://①⓪.0.0.1/", ascii},
		{"an international name is not ASCII", "https://bücher.example/", ascii},
		{"an international name percent-encoded is not ASCII", "https://b%C3%BCcher.example/", ascii},
		{"an address with a zone is refused", "https://[fe80::1%25eth0]/", "url: an address must not have a zone"},
		{"an address with a zone unescaped is no URL", "https://[fe80::1%eth0]/", bad},
		{"IPv4 in brackets is no URL", "https://[10.0.0.1]/", bad},
		{"IPv6 without brackets is no URL", "https://::1/", bad},
		{"a bracket that stays open is no URL", "https://[::1/", bad},

		{"a user name is refused", "https://user@example.com/", user},
		{"a password is refused", "https://user:secret@example.com/", user},
		{"a user name that looks like a host is refused", "https://example.com@10.0.0.1/", user},
		{"a user name that looks like host and port is refused", "https://example.com:443@10.0.0.1/", user},
		{"an empty user name is refused", "https://@example.com/", user},
		{"a fragment is refused", "https://example.com/#top", part},
		{"an empty fragment is refused", "https://example.com/#", part},
		{"a fragment that hides a host is refused", "https://10.0.0.1#@example.com/", part},
		{"a backslash that hides a host is no URL", `https://example.com\\@10.0.0.1/`, bad},
		{"port 0 is no port", "https://example.com:0/", port},
		{"a port beyond 65535 is no port", "https://example.com:65536/", port},
		{"a port that wraps to 443 is no port", "https://example.com:65979/", port},
		{"a negative port is no URL", "https://example.com:-1/", bad},
		{"a port in words is no URL", "https://example.com:https/", bad},
		{"another port is refused", "https://example.com:8443/", "url: port 8443 is not allowed"},
		{"the port of a database is refused", "https://example.com:5432/", "url: port 5432 is not allowed"},
		{"plain http is refused", "http://example.com/", "url: must use https"},
		{"ftp is refused", "ftp://example.com/", scheme},
		{"a file is refused", "file:///etc/passwd", scheme},
		{"gopher is refused", "gopher://127.0.0.1:6379/_FLUSHALL", scheme},
		{"a script is refused", "javascript:alert(1)", scheme},
		{"data is refused", "data:text/plain,x", scheme},
		{"a unix socket is refused", "unix:///var/run/docker.sock", scheme},
		{"a web socket is refused", "wss://example.com/", scheme},
		{"a URL without a scheme is refused", "example.com/hook", scheme},
		{"a URL of any scheme is refused", "//example.com/hook", scheme},
		{"a path is refused", "/hook", scheme},
		{"an empty host is refused", "https:///hook", noHost},
		{"an empty host with a port is refused", "https://:443/", noHost},
		{"a host without slashes is refused", "https:example.com", noHost},
		{"a host after one slash is refused", "https:/example.com", noHost},
		{"a name with an empty label is no host", "https://example..com/", host},
		{"a dot is no host", "https://./", host},
		{"a wildcard is no host", "https://*.example.com/", host},
		{"a name with a quote is no host", "https://exa'mple.com/", host},
		{"a label of 64 characters is no host", "https://" + strings.Repeat("a", 64) + ".example/", host},
		{"a name of 254 characters is no host", "https://" + strings.Repeat("a.", 126) + "aa/", host},
		{"a broken escape is no URL", "https://example.com/%zz", bad},
		{"a space is refused", "https://example.com/a b", control},
		{"white space in front is refused", " https://example.com/", control},
		{"white space at the end is refused", "https://example.com/ ", control},
		{"a tab is refused", `https://exam\tple.com/`, control},
		{"a line end is refused", `https://example.com/\r\nX-Injected: 1`, control},
		{"DEL is refused", `https://example.com/\u007f`, control},
		{"a NUL is refused", `https://example.com/\u0000`, "body: must not contain NUL characters"},
		{"letters beyond ASCII in the path are refused", "https://example.com/ü", "url: must be ASCII; percent-encode other characters in path and query"},
		{"a bidirectional mark in the path is refused", `https://example.com/\u202e`, "url: must be ASCII; percent-encode other characters in path and query"},
		{"2,049 bytes are too many", "https://example.com/" + strings.Repeat("a", 2049-20), "url: must have at most 2048 characters"},
		{"more than 2,048 bytes in fewer characters are too many", "https://example.com/" + strings.Repeat("ü", 1100), "url: must be at most 2048 bytes"},
		{"2,049 bytes once normalized are too many", "https://example.com/" + strings.Repeat("|", 700), "url: must be at most 2048 bytes"},
	} {
		rows = append(rows, refusal{tt.name, "POST /api/webhooks", body("url", `"`+tt.url+`"`), 400, tt.sentence})
	}
	for _, value := range []string{"1", "null", "true", "{}", "[]", `["https://example.com/"]`} {
		rows = append(rows, refusal{"a URL that is " + value + " is refused", "POST /api/webhooks", body("url", value), 400, "url: must be a string"})
	}
	s.refuses(t, rows)
}
