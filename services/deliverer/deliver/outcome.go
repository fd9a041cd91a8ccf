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

	"github.com/cardwire/cardwire/services/internal/egress"
)

// An Outcome is what an attempt came to, as the log keeps it. A receiver's
// failure is everyday business and no error.
type Outcome struct {
	Success bool
	Code    int    // of the response; 0 if there was none
	Class   string // of the failure: see the constants; empty on success
	Message string // a sentence for the owner, without URL or secrets; empty on success
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

// answered is the outcome of a response: 2xx is success and everything else is
// not. Redirects are not followed.
func answered(code int) Outcome {
	if code >= 200 && code <= 299 {
		return Outcome{Success: true, Code: code}
	}
	message := fmt.Sprintf("The receiver answered %d.", code)
	switch {
	case code >= 300 && code <= 399:
		message = fmt.Sprintf("The receiver answered %d; redirects are not followed.", code)
	case code == http.StatusGone:
		message = "The receiver answered 410 Gone; the endpoint is disabled."
	}
	return Outcome{Code: code, Class: classStatus, Message: message}
}

// unanswered is the outcome of an error of the HTTP client. Its own text never
// gets through: it holds the URL.
func unanswered(err error) Outcome {
	var (
		dns     *net.DNSError
		op      *net.OpError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		unknown x509.UnknownAuthorityError
	)
	fail := func(class, message string) Outcome { return Outcome{Class: class, Message: message} }
	switch {
	case errors.Is(err, egress.ErrRefused):
		return fail(classRefused, "The address is not allowed.")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), timedOut(err):
		return fail(classTimeout, "The receiver did not answer in time.")
	case errors.As(err, &dns):
		return fail(classDNS, "The host name could not be resolved.")
	case errors.As(err, &cert), errors.As(err, &unknown):
		return fail(classTLS, "The receiver's TLS certificate is not valid.")
	case errors.As(err, &record), errors.As(err, &alert):
		return fail(classTLS, "No secure connection could be made.")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(classConnect, "The connection was refused.")
	case errors.As(err, &op) && op.Op == "dial":
		return fail(classConnect, "The receiver could not be reached.")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fail(classClosed, "The receiver closed the connection without an answer.")
	default:
		return fail(classProtocol, "The receiver's answer is no valid HTTP.")
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
