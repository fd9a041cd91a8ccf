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
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cardwire/cardwire/services/internal/egress"
)

func TestEachStatusHasAnOutcome(t *testing.T) {
	t.Parallel()
	header := http.Header{"Retry-After": {"120"}}
	slow := map[int]bool{429: true, 502: true, 503: true, 504: true}
	asks := map[int]bool{429: true, 503: true}
	for code := range 1000 { // all that net/http lets through
		want := Outcome{Code: code, Class: classStatus, Message: fmt.Sprintf("The receiver answered %d.", code)}
		switch {
		case code < 100:
			want = Outcome{Class: classProtocol, Message: messageProtocol}
		case code/100 == 2:
			want = Outcome{Success: true, Code: code}
		case code/100 == 3:
			want.Message = fmt.Sprintf("The receiver answered %d; redirects are not followed.", code)
		case code == 410:
			want.Message = "The receiver answered 410 Gone; the endpoint is disabled."
		case asks[code]:
			want.RetryAfter = 2 * time.Minute
		}
		got := answered(code).asking(header, time.Now())
		if got != want {
			t.Errorf("%d: got %+v, want %+v", code, got, want)
		}
		if got.Gone() != (code == 410) || got.SlowDown() != slow[code] || got.Refused() || got.Interrupted() {
			t.Errorf("%d: gone %v, slow down %v, refused %v, interrupted %v", code, got.Gone(), got.SlowDown(), got.Refused(), got.Interrupted())
		}
	}
}

func TestTransportErrorsHaveClasses(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	read := func(err error) error {
		return &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
	}
	handshake := func(err error) error { return fmt.Errorf("%w: %w", egress.ErrHandshake, err) }
	cert := func(err error) error { return handshake(&tls.CertificateVerificationError{Err: err}) }
	begun := egress.Timing{Class: egress.ClassPublic, Connect: 1, FirstByte: 1}
	const (
		late      = "The receiver did not answer in time."
		closed    = "The receiver closed the connection without an answer."
		unsecured = "No secure connection could be made."
		unreached = "The receiver could not be reached."
	)
	for _, tt := range []struct {
		name    string
		err     error
		class   string
		message string
	}{
		{"address refused in the dial hook", dial(egress.ErrRefused), classRefused, "The address is not allowed."},
		{"address refused, and no more", egress.ErrRefused, classRefused, "The address is not allowed."},
		{"host does not exist", dial(&net.DNSError{Err: "no such host", Name: "secret.example", IsNotFound: true}), classDNS, "The host name could not be resolved."},
		{"name server fails", dial(&net.DNSError{Err: "server misbehaving", Name: "secret.example", IsTemporary: true}), classDNS, "The host name could not be resolved."},
		{"name server does not answer", dial(&net.DNSError{Err: "i/o timeout", Name: "secret.example", IsTimeout: true}), classTimeout, late},
		{"nobody listens", dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), classConnect, "The connection was refused."},
		{"no route to the host", dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), classConnect, unreached},
		{"no route to the network", dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), classConnect, unreached},
		{"reset while connecting", dial(os.NewSyscallError("connect", syscall.ECONNRESET)), classConnect, unreached},
		{"no answer in time", context.DeadlineExceeded, classTimeout, late},
		{"dial timed out", dial(os.ErrDeadlineExceeded), classTimeout, late},
		{"the kernel gave up connecting", dial(os.NewSyscallError("connect", syscall.ETIMEDOUT)), classTimeout, late},
		{"the kernel gave up a connection", read(syscall.ETIMEDOUT), classTimeout, late},
		{"handshake timed out", handshake(context.DeadlineExceeded), classTimeout, late},
		{"certificate of another host", cert(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "secret.example"}), classTLS, "The receiver's TLS certificate is for another host name."},
		{"certificate of nobody", cert(x509.UnknownAuthorityError{}), classTLS, "The receiver's TLS certificate is not by a known authority."},
		{"certificate that expired", cert(x509.CertificateInvalidError{Reason: x509.Expired}), classTLS, "The receiver's TLS certificate has expired or is not valid yet."},
		{"certificate for something else", cert(x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}), classTLS, "The receiver's TLS certificate is not valid."},
		{"plain http on a TLS port", handshake(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), classTLS, unsecured},
		{"TLS older than 1.2", handshake(errors.New("tls: server selected unsupported protocol version 302")), classTLS, unsecured},
		{"handshake refused", handshake(&net.OpError{Op: "remote error", Err: tls.AlertError(40)}), classTLS, unsecured},
		{"handshake broken off", handshake(io.EOF), classTLS, unsecured},
		{"closed before the answer", io.EOF, classClosed, closed},
		{"closed in the middle of the header", io.ErrUnexpectedEOF, classClosed, closed},
		{"reset", read(syscall.ECONNRESET), classClosed, closed},
		{"reset while writing", &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}, classClosed, closed},
		{"garbage for an answer", errors.New(`malformed HTTP response "secret"`), classProtocol, messageProtocol},
		{"a header without end", errors.New("net/http: server response headers exceeded 32768 bytes; aborted"), classProtocol, messageProtocol},
		{"we have no file descriptor left", dial(os.NewSyscallError("socket", syscall.EMFILE)), classInterrupted, messageInterrupted},
		{"the machine has no file descriptor left", dial(os.NewSyscallError("socket", syscall.ENFILE)), classInterrupted, messageInterrupted},
		{"we were told to stop", context.Canceled, classInterrupted, messageInterrupted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := unanswered(&url.Error{Op: "Post", URL: "https://secret.example/token", Err: fmt.Errorf("wrapped: %w", tt.err)}, begun)
			if want := (Outcome{Class: tt.class, Message: tt.message}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if got.Refused() != (tt.class == classRefused) || got.Interrupted() != (tt.class == classInterrupted) || got.Gone() || got.SlowDown() {
				t.Errorf("refused %v, interrupted %v, gone %v, slow down %v", got.Refused(), got.Interrupted(), got.Gone(), got.SlowDown())
			}
		})
	}
}

func TestAnErrorWithoutAnAnswerIsNoFaultOfTheAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		after egress.Timing
		want  string
	}{
		{"before any address was tried: ours", egress.Timing{}, classUnsendable},
		{"on a connection: it was lost", egress.Timing{Class: egress.ClassPublic}, classClosed},
		{"in the middle of an answer: the answer is bad", egress.Timing{Class: egress.ClassPublic, FirstByte: 1}, classProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := unanswered(errors.New("http: server closed idle connection"), tt.after); got.Class != tt.want || got.Message == "" {
				t.Errorf("got %+v, want class %s", got, tt.want)
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
