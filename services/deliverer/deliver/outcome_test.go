package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cardwire/cardwire/services/internal/egress"
)

func TestOnly2xxIsSuccess(t *testing.T) {
	t.Parallel()
	for code := 100; code <= 599; code++ {
		o := answered(code)
		if want := code/100 == 2; o.Success != want || o.Code != code {
			t.Errorf("%d: success %v", code, o.Success)
		}
		if o.Success != (o.Class == "") || o.Success != (o.Message == "") {
			t.Errorf("%d: class %q, message %q", code, o.Class, o.Message)
		}
		if o.Gone() != (code == 410) {
			t.Errorf("%d: gone %v", code, o.Gone())
		}
	}
}

func TestTransportErrorsHaveClasses(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"address refused in the dial hook", dial(egress.ErrRefused), classRefused},
		{"host does not exist", dial(&net.DNSError{Err: "no such host", Name: "secret.example", IsNotFound: true}), classDNS},
		{"resolver does not answer", dial(&net.DNSError{Err: "i/o timeout", IsTimeout: true}), classTimeout},
		{"nobody listens", dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), classConnect},
		{"no route", dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), classConnect},
		{"no answer in time", context.DeadlineExceeded, classTimeout},
		{"connection timed out", dial(os.ErrDeadlineExceeded), classTimeout},
		{"certificate of another host", &tls.CertificateVerificationError{Err: x509.HostnameError{}}, classTLS},
		{"certificate of nobody", x509.UnknownAuthorityError{}, classTLS},
		{"plain http on a TLS port", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, classTLS},
		{"handshake refused", &net.OpError{Op: "remote error", Err: tls.AlertError(40)}, classTLS},
		{"closed before the answer", io.EOF, classClosed},
		{"reset", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, classClosed},
		{"garbage for an answer", errors.New(`malformed HTTP response "\x00"`), classProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := unanswered(&url.Error{Op: "Post", URL: "https://secret.example/token", Err: fmt.Errorf("wrapped: %w", tt.err)})
			if o.Class != tt.want || o.Success || o.Code != 0 {
				t.Errorf("got %+v, want class %s", o, tt.want)
			}
			if o.Message == "" || strings.Contains(o.Message, "secret") {
				t.Errorf("message: %q", o.Message)
			}
		})
	}
}

func TestScheduleWaitsItsStepAndUpToATenthMore(t *testing.T) {
	t.Parallel()
	s := Schedule{30 * time.Second, 5 * time.Minute, 30 * time.Minute}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(-1, 5).Draw(t, "failures")
		step, wait, ok := s.After(n, rand.Float64)
		if ok != (n >= 1 && n <= 3) {
			t.Fatalf("after %d failures: ok %v", n, ok)
		}
		if !ok {
			return
		}
		if step != s[n-1] || wait < step || wait > step+step/10 {
			t.Fatalf("after %d failures: step %s, wait %s", n, step, wait)
		}
	})
}

func TestScheduleText(t *testing.T) {
	t.Parallel()
	var s Schedule
	if err := s.UnmarshalText([]byte("30s, 5m,30m,5m")); err != nil {
		t.Fatal(err)
	}
	if len(s) != 4 || s[1] != 5*time.Minute {
		t.Errorf("got %v", s)
	}
	if steps := s.Steps(); len(steps) != 3 {
		t.Errorf("steps %v", steps)
	}
	for _, bad := range []string{"30", "x", "30s,", "1ms", "25h", "-5m", "1500us", strings.Repeat("1s,", 20) + "1s"} {
		if err := s.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}
