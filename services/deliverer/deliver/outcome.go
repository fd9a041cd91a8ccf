package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/cardwire/cardwire/services/internal/egress"
)

// An Outcome is what an attempt came to, as the log keeps it. A receiver's
// failure is everyday business and no error.
type Outcome struct {
	Success    bool
	Code       int           // of the response; 0 if there was none
	Class      string        // of the failure: see the constants; empty on success
	Message    string        // a sentence for the owner, without URL or secrets; empty on success
	RetryAfter time.Duration // what a 429 or 503 asked for, 0 to 24 h; 0 also if it asked for nothing
}

// Classes of failures.
const (
	classStatus      = "status"          // answered, but not with 2xx
	classTimeout     = "timeout"         // no answer within ATTEMPT_TIMEOUT
	classRefused     = "refused_address" // the address must not be called
	classDNS         = "dns"             // the host name does not resolve
	classConnect     = "connect"         // nobody takes the connection
	classTLS         = "tls"             // no secure connection
	classClosed      = "closed"          // connection lost before the answer
	classProtocol    = "protocol"        // the answer is no HTTP that we accept
	classUnsendable  = "unsendable"      // a fault of ours or of the stored data: nothing was sent
	classInterrupted = "interrupted"     // a fault of ours in the middle of it
)

// Gone says that the receiver wants nothing more, ever (410).
func (o Outcome) Gone() bool { return o.Code == http.StatusGone }

// Refused says that the address must not be called, so that nothing was sent.
func (o Outcome) Refused() bool { return o.Class == classRefused }

// Interrupted says that the attempt was cut off by a fault of ours: it does not
// count against the receiver.
func (o Outcome) Interrupted() bool { return o.Class == classInterrupted }

// SlowDown says that the receiver is overloaded or away and more POSTs make it
// worse: 429, 502, 503 or 504 (Standard Webhooks, "Throttling").
func (o Outcome) SlowDown() bool {
	switch o.Code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// answered is the outcome of a response: 2xx is success and everything else is
// not. Redirects are not followed.
func answered(code int) Outcome {
	if code >= 200 && code <= 299 {
		return Outcome{Success: true, Code: code}
	}
	o := Outcome{Code: code, Class: classStatus, Message: fmt.Sprintf("The receiver answered %d.", code)}
	switch {
	case code < 100: // net/http takes any three digits
		return Outcome{Class: classProtocol, Message: messageProtocol}
	case code >= 300 && code <= 399:
		o.Message = fmt.Sprintf("The receiver answered %d; redirects are not followed.", code)
	case code == http.StatusGone:
		o.Message = "The receiver answered 410 Gone; the endpoint is disabled."
	}
	return o
}

// asking is the outcome with what the answer's header asks for.
func (o Outcome) asking(header http.Header, now time.Time) Outcome {
	if o.Code == http.StatusTooManyRequests || o.Code == http.StatusServiceUnavailable {
		o.RetryAfter = retryAfter(header.Get("Retry-After"), now)
	}
	return o
}

// Messages that more than one thing leads to.
const (
	messageProtocol    = "The receiver's answer is no valid HTTP."
	messageClosed      = "The receiver closed the connection without an answer."
	messageUnsendable  = "The request could not be made."
	messageInterrupted = "The attempt was cut off by a fault of ours."
)

// unanswered is the outcome of an error of the HTTP client, which came after what
// the timing says. Its own text never gets through: it holds the URL, and what
// a stranger wrote.
func unanswered(err error, t egress.Timing) Outcome {
	var (
		dns  *net.DNSError
		op   *net.OpError
		cert *tls.CertificateVerificationError
	)
	fail := func(class, message string) Outcome { return Outcome{Class: class, Message: message} }
	switch {
	case errors.Is(err, egress.ErrRefused):
		return fail(classRefused, "The address is not allowed.")
	case errors.Is(err, context.Canceled), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return fail(classInterrupted, messageInterrupted) // the receiver may be in the best of health
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), timedOut(err):
		return fail(classTimeout, "The receiver did not answer in time.")
	case errors.As(err, &dns):
		return fail(classDNS, "The host name could not be resolved.")
	case errors.As(err, &cert):
		return fail(classTLS, certificateFault(cert))
	case errors.Is(err, egress.ErrHandshake):
		return fail(classTLS, "No secure connection could be made.")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(classConnect, "The connection was refused.")
	case errors.As(err, &op) && op.Op == "dial":
		return fail(classConnect, "The receiver could not be reached.")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fail(classClosed, messageClosed)
	case t.Class == "": // no address was tried
		return fail(classUnsendable, messageUnsendable)
	case t.FirstByte == 0: // net/http has many words for it
		return fail(classClosed, messageClosed)
	default:
		return fail(classProtocol, messageProtocol)
	}
}

// certificateFault says what is wrong with a certificate.
func certificateFault(err error) string {
	var (
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &host):
		return "The receiver's TLS certificate is for another host name."
	case errors.As(err, &unknown):
		return "The receiver's TLS certificate is not by a known authority."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "The receiver's TLS certificate has expired or is not valid yet."
	default:
		return "The receiver's TLS certificate is not valid."
	}
}

// timedOut says whether anything in the chain of err calls itself a timeout:
// the first that could say so often does not ask those below it.
func timedOut(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
			return true
		}
	}
	return false
}
