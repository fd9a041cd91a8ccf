package deliver_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/internal/egress"
	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/services/internal/steptest"
)

const (
	// short is the timeout of attempts that are to end by it.
	short = 300 * time.Millisecond
	// ample is that of attempts that must end long before.
	ample = steptest.Bound / 2
)

// A hostility is a receiver that does what none should, and what an attempt must
// come to all the same.
type hostility struct {
	name  string
	tls   *tls.Config
	do    behavior
	hangs bool // the attempt ends by its timeout
	large bool // the body is more than what buffers on the way hold

	code      int
	class     string // empty: success
	or        string // another class, where the kernel decides
	truncated bool
	body      string // if truncated, as much of it as came
}

func hostilities(t testing.TB) []hostility {
	other, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	good := ca.serve(t, nil)
	limited := func(version uint16) *tls.Config { c := good.Clone(); c.MaxVersion = version; return c }
	expired := ca.serve(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	elsewhere := ca.serve(t, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 9)} })
	const (
		ok      = "HTTP/1.1 200 OK\r\n"
		fine    = ok + "Content-Length: 2\r\n\r\nok"
		chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"
		broken  = "HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n"
	)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 10<<20))
	_ = z.Close()
	bombed := ok + "Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + bomb.String()

	return []hostility{
		{name: "an honest one, by http", do: answer(fine), code: 200, body: "ok"},
		{name: "an honest one, by https", tls: good, do: answer(fine), code: 200, body: "ok"},

		{name: "accepts and reads nothing", do: thenHang(nothing), hangs: true, class: "timeout"},
		{name: "accepts and reads nothing of a large body", do: thenHang(nothing), large: true, hangs: true, class: "timeout"},
		{name: "reads and says nothing", do: thenHang(answer()), hangs: true, class: "timeout"},
		{name: "drips a header", do: thenDrip(answer(ok, "X: ")), hangs: true, class: "timeout"},
		{name: "drips a status line", do: thenDrip(answer("HTTP/1.1 200 ")), hangs: true, class: "timeout"},
		{name: "drips a body", do: thenDrip(answer(ok, "\r\n")), code: 200, truncated: true, body: strings.Repeat("x", 1000)},
		{name: "drips the body of a failure", do: thenDrip(answer("HTTP/1.1 500 Oops\r\n\r\n")), code: 500, class: "status", truncated: true, body: strings.Repeat("x", 1000)},
		{name: "stalls in the body", do: thenHang(answer(ok, "Content-Length: 10\r\n\r\n12345")), code: 200, truncated: true, body: "12345"},
		{name: "stalls in the body, by https", tls: good, do: thenHang(answer(ok, "Content-Length: 10\r\n\r\n12345")), code: 200, truncated: true, body: "12345"},
		{name: "sends a body without end", do: thenFlood(answer(ok, "\r\n"), "x"), code: 200, truncated: true, body: strings.Repeat("x", deliver.MaxResponseBody)},
		{name: "sends chunks without end", do: thenFlood(answer(chunked), "1\r\nx\r\n"), code: 200, truncated: true, body: strings.Repeat("x", deliver.MaxResponseBody)},
		{name: "sends a bomb of gzip: its first bytes are kept as they are", do: answer(bombed), code: 200, body: bomb.String()},
		{name: "sends headers without end", do: thenFlood(answer(ok), "X-A: b\r\n"), class: "protocol"},
		{name: "sends a header without end", do: thenFlood(answer(ok, "X-A: "), "b"), class: "protocol"},
		{name: "sends a status line without end", do: thenFlood(answer("HTTP/1.1 200 "), "b"), class: "protocol"},
		{name: "sends early hints without end", do: thenFlood(answer(), "HTTP/1.1 103 Early Hints\r\n\r\n"), class: "protocol"},
		{name: "sends chunk extensions without end", do: thenFlood(answer(chunked, "1;"), "x"), code: 200, truncated: true},
		{name: "sends trailers without end", do: thenFlood(answer(chunked, "0\r\n"), "X-A: b\r\n"), code: 200, truncated: true},

		{name: "closes once it has accepted", do: nothing, large: true, class: "closed"},
		{name: "resets once it has accepted", do: thenReset(nothing), large: true, class: "closed", or: "connect"},
		{name: "resets in the middle of the request", do: thenReset(readSome), large: true, class: "closed"},
		{name: "closes after the request", do: answer(), class: "closed"},
		{name: "resets after the request", do: thenReset(answer()), class: "closed"},
		{name: "closes in the middle of the header", do: answer(ok, "X-A: "), class: "closed"},
		{name: "resets in the middle of the header", do: thenReset(answer(ok, "X-A: ")), class: "closed"},
		{name: "closes after early hints", do: answer("HTTP/1.1 103 Early Hints\r\n\r\n"), class: "closed"},
		{name: "closes in the middle of the body", do: answer(ok, "Content-Length: 10\r\n\r\n12345"), code: 200, truncated: true, body: "12345"},
		{name: "resets in the middle of the body", do: thenReset(answer(ok, "Content-Length: 10\r\n\r\n")), code: 200, truncated: true},

		{name: "has a certificate that expired", tls: expired, do: handshakeOnly, class: "tls"},
		{name: "has a certificate of another host", tls: elsewhere, do: handshakeOnly, class: "tls"},
		{name: "has a certificate of nobody known", tls: other.serve(t, nil), do: handshakeOnly, class: "tls"},
		{name: "speaks TLS 1.0 at most", tls: limited(tls.VersionTLS10), do: handshakeOnly, class: "tls"},
		{name: "speaks TLS 1.1 at most", tls: limited(tls.VersionTLS11), do: handshakeOnly, class: "tls"},
		{name: "speaks TLS 1.2", tls: limited(tls.VersionTLS12), do: answer(fine), code: 200, body: "ok"},
		{name: "stalls in the handshake", tls: good, do: thenHang(nothing), hangs: true, class: "timeout"},
		{name: "closes in the handshake", tls: good, do: nothing, class: "tls"},
		{name: "resets in the handshake", tls: good, do: thenReset(plainly("")), class: "tls"},
		{name: "closes after the handshake", tls: good, do: handshakeOnly, large: true, class: "closed"},
		{name: "wants a certificate of ours", tls: func() *tls.Config { c := limited(tls.VersionTLS12); c.ClientAuth = tls.RequireAnyClientCert; return c }(), do: handshakeOnly, class: "tls"},
		{name: "speaks plain HTTP where TLS is due", tls: good, do: plainly("HTTP/1.1 400 Bad Request\r\n\r\n"), class: "tls"},
		{name: "speaks something else where TLS is due", tls: good, do: plainly("SSH-2.0-OpenSSH_9.2\r\n"), class: "tls"},

		{name: "says garbage", do: answer("garbage\r\n\r\n"), class: "protocol"},
		{name: "says bytes", do: answer("\x00\xff\x16\x03\x01\r\n\r\n"), class: "protocol"},
		{name: "speaks TLS where plain HTTP is due", do: answer("\x15\x03\x01\x00\x02\x02\x46"), class: "protocol"},
		{name: "is an SSH server", do: answer("SSH-2.0-OpenSSH_9.2\r\n\r\n"), class: "protocol"},
		{name: "speaks HTTP/0.9", do: answer("<html>hello</html>\n"), class: "protocol"},
		{name: "speaks HTTP/2 unasked", do: answer("\x00\x00\x00\x04\x00\x00\x00\x00\x00\r\n\r\n"), class: "protocol"},
		{name: "speaks HTTP/1.0", do: answer("HTTP/1.0 200 OK\r\n\r\nok"), code: 200, body: "ok"},
		{name: "gives no reason", do: answer("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), code: 200},
		{name: "gives no reason but a space", do: answer("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"), code: 200},
		{name: "gives no status", do: answer("HTTP/1.1\r\n\r\n"), class: "protocol"},
		{name: "gives a status of two digits", do: answer("HTTP/1.1 20 OK\r\n\r\n"), class: "protocol"},
		{name: "gives a status of four digits", do: answer("HTTP/1.1 2000 OK\r\n\r\n"), class: "protocol"},
		{name: "gives a negative status", do: answer("HTTP/1.1 -20 OK\r\n\r\n"), class: "protocol"},
		{name: "gives a status that is a word", do: answer("HTTP/1.1 two OK\r\n\r\n"), class: "protocol"},
		{name: "gives the status 000", do: answer("HTTP/1.1 000 Zero\r\n\r\n"), class: "protocol"},
		{name: "gives the status 099", do: answer("HTTP/1.1 099 Low\r\n\r\n"), class: "protocol"},
		{name: "gives the status 999", do: answer("HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n"), code: 999, class: "status"},
		{name: "gives a header without a colon", do: answer(ok + "nonsense\r\n\r\n"), class: "protocol"},
		{name: "switches protocols", do: thenHang(answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nwhat follows")), code: 101, class: "status"},
		{name: "continues, gives hints, and answers", do: answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + fine), code: 200, body: "ok"},
		{name: "redirects", do: answer("HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), code: 307, class: "status"},
		{name: "redirects to itself for good", do: answer("HTTP/1.1 308 Here\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), code: 308, class: "status"},
		{name: "authenticates", do: answer("HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"), code: 401, class: "status"},

		{name: "gives a length that is too short", do: answer(ok + "Content-Length: 2\r\n\r\nokay"), code: 200, body: "ok"},
		{name: "gives a length that is too long", do: answer(ok + "Content-Length: 9\r\n\r\nok"), code: 200, truncated: true, body: "ok"},
		{name: "gives the longest length", do: answer(ok + "Content-Length: 9223372036854775807\r\n\r\nok"), code: 200, truncated: true, body: "ok"},
		{name: "gives a length beyond 64 bits", do: answer(ok + "Content-Length: 9223372036854775808\r\n\r\nok"), class: "protocol"},
		{name: "gives a negative length", do: answer(ok + "Content-Length: -1\r\n\r\nok"), class: "protocol"},
		{name: "gives two lengths that differ", do: answer(ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"), class: "protocol"},
		{name: "gives the same length twice", do: answer(ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok"), code: 200, body: "ok"},
		{name: "gives 204 and a body", do: answer("HTTP/1.1 204 No Content\r\n\r\nbody"), code: 204},
		{name: "sends chunks that are none", do: answer(chunked + "zz\r\nok\r\n"), code: 200, truncated: true},
		{name: "sends chunks that are none, of a failure", do: answer(broken + "zz\r\nok\r\n"), code: 500, class: "status", truncated: true},
		{name: "sends a chunk longer than said", do: answer(chunked + "1\r\nok\r\n0\r\n\r\n"), code: 200, truncated: true, body: "o"},
		{name: "sends a chunk of more than 64 bits", do: answer(chunked + "11112222333344445\r\nok"), code: 200, truncated: true},
		{name: "ends without a last chunk", do: answer(chunked + "2\r\nok\r\n"), code: 200, truncated: true, body: "ok"},
		{name: "names an encoding that nobody knows", do: answer(ok + "Transfer-Encoding: rot13\r\n\r\nok"), class: "protocol"},
	}
}

// plainly writes below TLS.
func plainly(text string) behavior {
	return func(_ *rawReceiver, c net.Conn) {
		raw := c.(*tls.Conn).NetConn()
		_, _ = raw.Read(make([]byte, 1024))
		_, _ = io.WriteString(raw, text)
	}
}

var loopbackCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func loopback(t testing.TB) *egress.Guard {
	t.Helper()
	g, err := egress.New(egress.Config{AllowCIDRs: loopbackCIDRs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// try is an attempt of an event of its own.
func try(url string, bodyBytes int) deliver.Attempt {
	id := uuid.Must(uuid.NewV7())
	return deliver.Attempt{EventID: id, URL: url, Secrets: []string{signing.NewSecret()}, Body: bytes.Repeat([]byte{' '}, bodyBytes)}
}

// largeBody is more than a socket's buffers hold, though an event is smaller:
// loopback's take some MiB.
const largeBody = 16 << 20

func TestWhateverAReceiverDoesAnAttemptEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range hostilities(t) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := hostile(t, tt.tls, tt.do)
			a, timeout := try(r.url, 100), ample
			if tt.large {
				a.Body = make([]byte, largeBody)
			}
			if tt.hangs {
				timeout = short
			}
			client := loopback(t).Client(0)
			ended := make(chan deliver.Response, 1)
			go func() { ended <- deliver.Post(t.Context(), client, a, timeout) }()
			var got deliver.Response
			select {
			case got = <-ended:
			case <-time.After(steptest.Bound): // against a hang
				t.Fatal("the attempt did not end")
			}
			t.Logf("ended %s after its timeout of %s", got.Took-timeout, timeout)
			if got.Success != (tt.class == "") || got.Class != tt.class && (tt.or == "" || got.Class != tt.or) || got.Code != tt.code {
				t.Errorf("got %+v, want class %q, code %d", got.Outcome, tt.class, tt.code)
			}
			if got.Success != (got.Message == "") || strings.Contains(got.Message, "127.0.0.1") {
				t.Errorf("message %q", got.Message)
			}
			// How much comes of a body that does not end is up to the machine.
			whole := string(got.Body) == tt.body || tt.truncated && strings.HasPrefix(tt.body, string(got.Body))
			if got.Truncated != tt.truncated || !whole {
				t.Errorf("truncated %v, body of %d bytes, want %v and %d", got.Truncated, len(got.Body), tt.truncated, len(tt.body))
			}
			if posts, _ := r.seen(); posts > 1 {
				t.Errorf("the receiver saw %d POSTs of one attempt", posts)
			}
		})
	}
}
