package egress

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// numeric are host names that are addresses to libc's resolver and names without
// an answer to Go's. All lead to loopback.
var numeric = []string{"0177.0.0.1", "0x7f.1", "0x7f000001", "127.1", "2130706433", "0"}

// TestBothResolversMeetTheHook tries both in processes of their own, as it is
// decided once per process whether libc's is used. The guard takes Go's; should it
// ever not, the hook sees numbers all the same.
func TestBothResolversMeetTheHook(t *testing.T) {
	if os.Getenv("TEST_RESOLVER") != "" {
		resolve(t)
		return
	}
	t.Parallel()
	for _, resolver := range []string{"go", "cgo"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBothResolversMeetTheHook$", "-test.v")
		cmd.Env = append(os.Environ(), "TEST_RESOLVER="+resolver, "GODEBUG=netdns="+resolver)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("resolver %s: %v\n%s", resolver, err, out)
		}
	}
}

func resolve(t *testing.T) {
	libc := withCgo && os.Getenv("TEST_RESOLVER") == "cgo"
	g := newGuard(t, Config{AllowHTTP: true})
	if libc {
		g.resolver = new(net.Resolver)
	} else {
		g.resolver = new(nameServer).resolver(t) // nobody outside is asked
	}
	g.transport = newTransport(g)
	for _, host := range append([]string{"localhost", "127.0.0.1", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]"}, numeric...) {
		for _, scheme := range []string{"http", "https"} {
			tried, err := visit(t, g, scheme+"://"+host+"/")
			var unknown *net.DNSError
			if errors.Is(err, ErrRefused) && len(tried) > 0 {
				continue
			}
			if !libc && errors.As(err, &unknown) && len(tried) == 0 && strings.Contains(strings.Join(numeric, " "), host) {
				continue // no address to Go's resolver
			}
			t.Errorf("%s://%s/: %v after %v, want ErrRefused", scheme, host, err, tried)
		}
	}
}
