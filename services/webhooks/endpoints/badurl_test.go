package endpoints

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestBadURLs has each class of addresses that must not be called, in several
// spellings, through both ways of giving an endpoint a URL.
func TestBadURLs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	const address, name = "url: address is not allowed", "url: host is neither a valid name nor an address"
	tests := []struct{ class, url, sentence string }{
		{"this network", "https://0.0.0.0/", address},
		{"this network, another address", "https://0.1.2.3/", address},
		{"this network, mapped", "https://[::ffff:0.0.0.0]/", address},
		{"private 10/8", "https://10.0.0.1/", address},
		{"private 10/8, mapped in hex", "https://[::ffff:a00:1]/", address},
		{"private 10/8, compatible", "https://[::10.0.0.1]/", address},
		{"private 10/8, in NAT64", "https://[64:ff9b::10.0.0.1]/", address},
		{"private 10/8, in local NAT64", "https://[64:ff9b:1::a00:1]/", address},
		{"private 10/8, in 6to4", "https://[2002:a00:1::]/", address},
		{"private 10/8, in Teredo", "https://[2001:0:a00:1::]/", address},
		{"private 172.16/12", "https://172.16.0.1/", address},
		{"private 172.16/12, its end", "https://172.31.255.255/", address},
		{"private 192.168/16", "https://192.168.1.1/", address},
		{"shared 100.64/10", "https://100.64.0.1/", address},
		{"shared 100.64/10, its end", "https://100.127.255.255/", address},
		{"loopback in IPv6", "https://[::1]/", address},
		{"loopback in IPv6, written out", "https://[0:0:0:0:0:0:0:1]/", address},
		{"loopback in short", "https://127.1/", name},
		{"loopback as a number", "https://2130706433/", name},
		{"loopback in hex", "https://0x7f000001/", name},
		{"loopback in hex by parts", "https://0x7f.0.0.1/", name},
		{"loopback in octal", "https://0177.0.0.1/", name},
		{"loopback in full-width digits", "https://１２７.0.0.1/", "url: host must be ASCII"},
		{"loopback in circled digits", "https://①②⑦.0.0.1/", "url: host must be ASCII"},
		{"loopback, percent-encoded", "https://%31%32%37.0.0.1/", "url: "},
		{"link-local", "https://169.254.1.1/", address},
		{"link-local in IPv6", "https://[fe80::1]/", address},
		{"link-local with a zone", "https://[fe80::1%25eth0]/", "url: "},
		{"metadata", "https://169.254.169.254/latest/meta-data/", address},
		{"metadata, mapped", "https://[::ffff:169.254.169.254]/", address},
		{"metadata as a number", "https://2852039166/", name},
		{"metadata of Azure", "https://168.63.129.16/", address},
		{"metadata of AWS in IPv6", "https://[fd00:ec2::254]/", address},
		{"unique local", "https://[fc00::1]/", address},
		{"site-local", "https://[fec0::1]/", address},
		{"multicast", "https://224.0.0.1/", address},
		{"multicast in IPv6", "https://[ff02::1]/", address},
		{"reserved", "https://240.0.0.1/", address},
		{"broadcast", "https://255.255.255.255/", address},
		{"documentation", "https://192.0.2.1/", address},
		{"documentation in IPv6", "https://[2001:db8::1]/", address},
		{"the new documentation in IPv6", "https://[3fff::1]/", address},
		{"benchmarking", "https://198.18.0.1/", address},
		{"IETF protocols", "https://192.0.0.1/", address},
		{"unspecified in IPv6", "https://[::]/", address},
		{"discard only", "https://[100::1]/", address},
		{"beyond 2000::/3", "https://[4000::1]/", address},
		{"an address with a dot behind", "https://10.0.0.1./", "url: "},
		{"an address too long", "https://10.0.0.1.1/", name},
		{"an address with a number too big", "https://10.0.0.256/", name},
		{"user info", "https://user@example.com/", "url: must not contain a user name or password"},
		{"user info that looks like a host", "https://example.com@10.0.0.1/", "url: must not contain a user name or password"},
		{"a fragment", "https://example.com/#", "url: must not have a fragment"},
		{"another port", "https://example.com:8080/", "url: port 8080 is not allowed"},
		{"port of SSH", "https://example.com:22/", "url: port 22 is not allowed"},
		{"port 0", "https://example.com:0/", "url: port must be a number from 1 to 65535"},
		{"port beyond any", "https://example.com:65536/", "url: port must be a number from 1 to 65535"},
		{"plain http", "http://example.com/", "url: must use https"},
		{"plain http by an address", "http://93.184.216.34/", "url: must use https"},
		{"no scheme", "//example.com/", "url: must be absolute and start with https://"},
		{"a scheme alone", "https:", "url: must have a host"},
		{"one slash", "https:/example.com/", "url: must have a host"},
		{"backslashes", `https:\\\\example.com/`, "url: "},
		{"a data URL", "data:text/plain,x", "url: must be absolute and start with https://"},
		{"gopher", "gopher://example.com/", "url: must be absolute and start with https://"},
		{"a unix socket", "unix:///var/run/docker.sock", "url: must be absolute and start with https://"},
		{"a name with two dots", "https://example..com/", name},
		{"a label of 64 letters", "https://" + strings.Repeat("a", 64) + ".com/", name},
		{"a name of more than 253 letters", "https://" + strings.Repeat("a.", 130) + "com/", name},
		{"a name beyond ASCII", "https://bücher.example/", "url: host must be ASCII"},
		{"a path beyond ASCII", "https://example.com/bücher", "url: must be ASCII"},
		{"a tab", "https://example.com/\\t", "url: must not contain spaces or control characters"},
		{"a broken escape", "https://example.com/%zz", "url: is not a valid URL"},
	}
	for _, tt := range tests {
		t.Run(tt.class, func(t *testing.T) {
			t.Parallel()
			for _, a := range []answer{
				s.call(t, bob, "POST", "/api/webhooks", body("url", fmt.Sprintf(`"%s"`, tt.url))),
				s.call(t, alice, "PATCH", "/api/webhooks/"+id.String(), fmt.Sprintf(`{"url":"%s"}`, tt.url)),
			} {
				if a.status != http.StatusBadRequest || !strings.HasPrefix(a.sentence(t), tt.sentence) {
					t.Errorf("%s: %d %s, want %s", tt.url, a.status, a.body, tt.sentence)
				}
				checkProblem(t, a)
			}
		})
	}
}

func TestBadUpdates(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	before := s.call(t, alice, "GET", "/api/webhooks/"+id.String(), nil).body
	for _, tt := range []struct{ name, body, sentence string }{
		{"nothing", "{}", "body: must have at least 1 member"},
		{"an array", `[{"op":"replace"}]`, "body: must be a JSON object"},
		{"null", "null", "body: must be a JSON object"},
		{"no text", "", "body: must be a JSON object, not empty"},
		{"a member unknown", `{"id":"x"}`, "id: is not known here"},
		{"the secret", `{"secret":"whsec_x"}`, "secret: is not known here"},
		{"the reason", `{"disabledReason":"gone"}`, "disabledReason: is not known here"},
		{"a member twice", `{"isActive":true,"isActive":false}`, `body: has the member "isActive" twice`},
		{"url null", `{"url":null}`, "url: must "},
		{"url a number", `{"url":1}`, "url: must be a string"},
		{"url empty", `{"url":""}`, "url: must have at least 1 character"},
		{"events null", `{"events":null}`, "events: must "},
		{"events empty", `{"events":[]}`, "events: must have at least 1 entry"},
		{"events unknown", `{"events":["card.deleted"]}`, `events[0]: "card.deleted" is not known`},
		{"events twice", `{"events":["card.viewed","card.viewed"]}`, `events[1]: "card.viewed" is there twice`},
		{"events a string", `{"events":"card.viewed"}`, "events: must be an array"},
		{"an event a number", `{"events":[1]}`, "events[0]: must be a string"},
		{"1000 events", `{"events":["card.viewed"` + strings.Repeat(`,"card.viewed"`, 999) + `]}`, "events: must have at most 20 entries"},
		{"description of two lines", `{"description":"a\nb"}`, "description: must be one line"},
		{"description too long", `{"description":"` + strings.Repeat("a", 257) + `"}`, "description: must have at most 256 characters"},
		{"description a number", `{"description":1}`, "description: must be a string"},
		{"isActive null", `{"isActive":null}`, "isActive: must "},
		{"isActive a string", `{"isActive":"false"}`, "isActive: must be true or false"},
		{"isActive a number", `{"isActive":0}`, "isActive: must be true or false"},
		{"asymmetric null", `{"asymmetric":null}`, "asymmetric: must "},
		{"maxInFlight 0", `{"maxInFlight":0}`, "maxInFlight: must be at least 1"},
		{"maxInFlight 101", `{"maxInFlight":101}`, "maxInFlight: must be at most 100"},
		{"rateLimit 1001", `{"rateLimit":1001}`, "rateLimit: must be at most 1000"},
		{"rateLimit a fraction", `{"rateLimit":0.5}`, "rateLimit: must be "},
		{"a pause too short", `{"retrySchedule":["1ms"]}`, "retrySchedule[0]: must be a duration from 1s to 24h"},
		{"21 retries", `{"retrySchedule":["1s"` + strings.Repeat(`,"1s"`, 20) + `]}`, "retrySchedule: must have at most 20 entries"},
		{"one right, one wrong", `{"description":"x","maxInFlight":0}`, "maxInFlight: must be at least 1"},
		{"lone surrogate", `{"description":"\ud800"}`, "body: must be valid Unicode"},
		{"NUL", `{"description":"\u0000"}`, "body: must not contain NUL characters"},
		{"too deep", `{"description":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}`, "body: must be nested at most 8 deep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := s.call(t, alice, "PATCH", "/api/webhooks/"+id.String(), tt.body)
			if a.status != http.StatusBadRequest || !strings.HasPrefix(a.sentence(t), tt.sentence) {
				t.Errorf("%d %s, want %s", a.status, a.body, tt.sentence)
			}
			checkProblem(t, a)
			if after := s.call(t, alice, "GET", "/api/webhooks/"+id.String(), nil).body; after != before {
				t.Errorf("it changed something: %s", after)
			}
		})
	}
	if a := s.call(t, alice, "PATCH", "/api/webhooks/"+id.String(), strings.Repeat(" ", 1<<17)); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large one: %d %s", a.status, a.body)
	}
}
