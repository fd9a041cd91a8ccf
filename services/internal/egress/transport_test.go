package egress

import (
	"compress/gzip"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver starts a server on loopback that counts the connections made to it.
func receiver(t *testing.T, h http.HandlerFunc) (srv *httptest.Server, connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	srv = httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv, connections
}

func onLoopback(t *testing.T) *Guard {
	t.Helper()
	return newGuard(t, Config{AllowCIDRs: prefixes("127.0.0.0/8", "::1/128")})
}

func post(t *testing.T, c *http.Client, url string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

func TestClientReachesNoRefusedAddress(t *testing.T) {
	t.Parallel()
	srv, connections := receiver(t, func(http.ResponseWriter, *http.Request) {})
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]*Guard{
		"nothing allowed":        newGuard(t, Config{}),
		"plain http is on":       newGuard(t, Config{AllowHTTP: true}),
		"another CIDR allowed":   newGuard(t, Config{AllowCIDRs: prefixes("127.0.0.2/32")}),
		"the port is in no list": newGuard(t, Config{Ports: []uint16{1}}),
	} {
		for _, url := range []string{
			"http://127.0.0.1:" + port, "https://127.0.0.1:" + port, "http://[::ffff:127.0.0.1]:" + port,
			"http://localhost:" + port, // a name that leads to a refused address
		} {
			_, err := post(t, g.Client(time.Minute), url)
			if !errors.Is(err, ErrRefused) {
				t.Errorf("%s: POST %s: %v, want ErrRefused", name, url, err)
				continue
			}
			if text := errors.Unwrap(err).Error(); text != "address is not allowed" {
				t.Errorf("%s: POST %s: refusal says %q", name, url, text)
			}
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections were made to an address that is refused", n)
	}
}

// TestPlainHTTPHasARuleOfItsOwn takes loopback for a public address, which https
// may call and plain http may not.
func TestPlainHTTPHasARuleOfItsOwn(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	host := srv.Listener.Addr().String()
	g := newGuard(t, Config{Ports: []uint16{netip.MustParseAddrPort(host).Port()}})
	g.public = ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(prefixes("127.0.0.0/8")...))
	g.transport.secure.TLSClientConfig.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if _, err := post(t, g.Client(time.Minute), "https://"+host); err != nil {
		t.Errorf("https: %v", err)
	}
	if _, err := post(t, g.Client(time.Minute), "http://"+host); !errors.Is(err, ErrRefused) {
		t.Errorf("plain http: %v, want ErrRefused", err)
	}
}

func TestClientFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	for _, code := range []int{301, 302, 303, 307, 308} {
		var requests atomic.Int64
		srv, _ := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
		})
		resp, err := post(t, onLoopback(t).Client(time.Minute), srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != code || requests.Load() != 1 {
			t.Errorf("%d: answer is %d after %d requests", code, resp.StatusCode, requests.Load())
		}
	}
}

func TestClientUsesNoProxyOfTheEnvironment(t *testing.T) {
	proxy, connections := receiver(t, func(http.ResponseWriter, *http.Request) {})
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	// net/http reads the environment once per process and leaves loopback
	// out, so look at the transport as well as at the proxy.
	g := onLoopback(t) // the proxy could be reached
	if g.transport.plain.Proxy != nil || g.transport.secure.Proxy != nil {
		t.Error("a transport has a proxy")
	}
	for _, url := range []string{"http://192.0.2.1/", "https://192.0.2.1/"} {
		if _, err := post(t, g.Client(time.Minute), url); !errors.Is(err, ErrRefused) {
			t.Errorf("POST %s: %v, want ErrRefused", url, err)
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("the proxy got %d connections", n)
	}
}

func TestClientUndoesNoCompression(t *testing.T) {
	t.Parallel()
	srv, _ := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept-Encoding"); got != "" {
			t.Errorf("asked for compression: %q", got)
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(make([]byte, 1<<20))
		_ = z.Close()
	})
	resp, err := post(t, onLoopback(t).Client(time.Minute), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n > 10<<10 {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestClientBoundsTheResponseHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		bytes int
		ok    bool
	}{
		{"a large header", 30 << 10, true},
		{"a header beyond 32 KiB", 33 << 10, false},
	} {
		srv, _ := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("a", tt.bytes))
		})
		if _, err := post(t, onLoopback(t).Client(time.Minute), srv.URL); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestClientReusesConnections(t *testing.T) {
	t.Parallel()
	srv, connections := receiver(t, func(http.ResponseWriter, *http.Request) {})
	g := onLoopback(t)
	for range 20 {
		resp, err := post(t, g.Client(time.Minute), srv.URL) // a client each, one pool
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("20 POSTs one after the other took %d connections", n)
	}
}

func TestClientSpeaksTLS12AndHTTP11(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		version uint16
		ok      bool
	}{
		{"TLS 1.1", tls.VersionTLS11, false},
		{"TLS 1.2", tls.VersionTLS12, true},
		{"TLS 1.3", tls.VersionTLS13, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			srv.EnableHTTP2 = true
			srv.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tt.version}
			srv.Config.ErrorLog = quiet()
			srv.StartTLS()
			t.Cleanup(srv.Close)

			g := onLoopback(t)
			if _, err := post(t, g.Client(time.Minute), srv.URL); err == nil {
				t.Fatal("a certificate of an unknown authority was accepted")
			}
			g.transport.secure.TLSClientConfig.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			resp, err := post(t, g.Client(time.Minute), srv.URL)
			if (err == nil) != tt.ok {
				t.Fatalf("error %v", err)
			}
			if err == nil && resp.ProtoMajor != 1 {
				t.Errorf("spoke %s", resp.Proto)
			}
		})
	}
}

func TestClientTimeoutBoundsTheBody(t *testing.T) {
	t.Parallel()
	srv, _ := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // never another byte
	})
	resp, err := post(t, onLoopback(t).Client(50*time.Millisecond), srv.URL)
	if err == nil { // unless the machine was too slow for the header
		_, err = io.ReadAll(resp.Body)
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a body that stalls ended with %v, want a timeout", err)
	}
}

func TestOtherSchemesAreRefused(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"ftp://127.0.0.1/", "file:///etc/passwd", "socks5://127.0.0.1/"} {
		if _, err := post(t, onLoopback(t).Client(time.Minute), url); err == nil {
			t.Errorf("POST %s was sent", url)
		}
	}
}

// quiet keeps the server's complaints about our refusals out of the test's output.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
