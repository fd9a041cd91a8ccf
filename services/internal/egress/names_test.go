package egress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A nameServer answers on loopback. Each question for addresses takes the next of
// a name's answers, and the last goes on answering.
type nameServer struct {
	mu      sync.Mutex
	aliases map[string]string // CNAME
	answers map[string][]string
}

// resolver starts the server and returns a resolver that asks nobody else.
func (s *nameServer) resolver(t testing.TB) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := s.reply(buf[:n]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (s *nameServer) reply(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	name := strings.TrimSuffix(q.Name.String(), ".")
	s.mu.Lock()
	defer s.mu.Unlock()
	header := func(name string, kind dnsmessage.Type) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET}
	}
	for s.aliases[name] != "" {
		to := s.aliases[name]
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: header(name, dnsmessage.TypeCNAME),
			Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to + ".")},
		})
		name = to
	}
	answers, known := s.answers[name]
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	} else {
		for one := range strings.FieldsSeq(answers[0]) {
			addr := netip.MustParseAddr(one)
			switch {
			case q.Type == dnsmessage.TypeA && addr.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header(name, q.Type), Body: &dnsmessage.AResource{A: addr.As4()}})
			case q.Type == dnsmessage.TypeAAAA && !addr.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header(name, q.Type), Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
			}
		}
		if q.Type == dnsmessage.TypeA && len(answers) > 1 {
			s.answers[name] = answers[1:]
		}
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// named returns a guard that may call loopback, and whose names are those of s.
func named(t testing.TB, s *nameServer) *Guard {
	t.Helper()
	g := newGuard(t, Config{AllowCIDRs: prefixes("127.0.0.0/8")})
	g.resolver = s.resolver(t)
	g.transport = newTransport(g)
	return g
}

// visit makes a POST and returns the addresses that were tried, of which those
// that the hook refused were not connected to.
func visit(t testing.TB, g *Guard, url string) (tried []string, err error) {
	t.Helper()
	var mu sync.Mutex
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{ConnectStart: func(_, addr string) {
		mu.Lock()
		defer mu.Unlock()
		host, _, _ := net.SplitHostPort(addr)
		tried = append(tried, host)
	}})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.Client(time.Minute).Do(r)
	if err == nil {
		_ = resp.Body.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(tried), err
}

func TestNamesAreHeldToWhatTheyLeadTo(t *testing.T) {
	t.Parallel()
	srv, _ := receiver(t, func(http.ResponseWriter, *http.Request) {})
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var many []string
	for n := range 20 {
		many = append(many, netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}).String())
	}
	for _, tt := range []struct {
		name    string
		answer  string // addresses
		allowed bool
	}{
		{"an allowed address", "127.0.0.1", true},
		{"a private address", "10.0.0.1", false},
		{"metadata", "169.254.169.254", false},
		{"Azure's host", "168.63.129.16", false},
		{"an IPv6 address alone: loopback", "::1", false},
		{"an IPv6 address alone: unique local", "fd00::1", false},
		{"an IPv6 address alone: NAT64 of loopback", "64:ff9b::7f00:1", false},
		{"an IPv6 address alone: documentation of 2024", "3fff::1", false},
		{"a private address mapped into IPv6", "::ffff:10.0.0.1", false},
		{"a private address, and an allowed one after it", "10.0.0.1 127.0.0.1", true},
		{"an allowed address, and a private one after it", "127.0.0.1 10.0.0.1", true},
		{"a private IPv6 address and an allowed IPv4 address", "fd00::1 127.0.0.1", true},
		{"private addresses of both kinds", "10.0.0.1 192.168.0.1 fd00::1 ::1", false},
		{"many private addresses", strings.Join(many, " "), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &nameServer{answers: map[string][]string{"end.example": {tt.answer}}, aliases: map[string]string{"alias.example": "middle.example", "middle.example": "end.example"}}
			g := named(t, s)
			for _, name := range []string{"end.example", "alias.example"} {
				tried, err := visit(t, g, "http://"+name+":"+port+"/")
				if tt.allowed && err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if !tt.allowed && (!errors.Is(err, ErrRefused) || errors.Unwrap(err).Error() != ErrRefused.Error()) {
					t.Errorf("%s: %v after %v, want ErrRefused alone", name, err, tried)
				}
				if len(tried) == 0 {
					t.Errorf("%s: nothing was tried: this shows nothing", name)
				}
				g.Close()
			}
		})
	}
}

func TestANameThatChangesIsCheckedEachTime(t *testing.T) {
	t.Parallel()
	srv, connections := receiver(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{answers: map[string][]string{"rebind.example": {"127.0.0.1", "10.0.0.1", "127.0.0.1", "169.254.169.254"}}}
	g := named(t, s)
	url := "http://rebind.example:" + port + "/"
	for n, allowed := range []bool{true, false, true, false, false} {
		tried, err := visit(t, g, url)
		if allowed && err != nil || !allowed && !errors.Is(err, ErrRefused) {
			t.Errorf("POST %d: %v after %v", n+1, err, tried)
		}
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestANameThatDoesNotExistIsNoRefusal(t *testing.T) {
	t.Parallel()
	g := named(t, &nameServer{})
	tried, err := visit(t, g, "https://nowhere.example/")
	var missing *net.DNSError
	if !errors.As(err, &missing) || !missing.IsNotFound || errors.Is(err, ErrRefused) || len(tried) != 0 {
		t.Errorf("%v after %v", err, tried)
	}
}
