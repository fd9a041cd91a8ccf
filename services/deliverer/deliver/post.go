package deliver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/egress"
	"github.com/cardwire/cardwire/services/internal/signing"
)

// What is read and kept of a response.
const (
	maxResponseBody    = 64 << 10
	maxResponseHeaders = 8 << 10
	// bodyGrace is how long the body may take once the header is there, within
	// the attempt's timeout. The status has decided by then: a body that drips
	// must not hold a slot for what is only kept to be looked at.
	bodyGrace = time.Second
)

// userAgent names us to receivers.
const userAgent = "Cardwire/1"

// headerReplay tells receivers that a POST is of a replay, and of which. Its
// webhook-id is that of the event, which they may have seen.
const headerReplay = "webhook-replay"

// An Attempt is one HTTP try of a delivery, claimed and not yet made.
type Attempt struct {
	DeliveryID uuid.UUID
	EventID    uuid.UUID
	EndpointID uuid.UUID
	EventType  string
	N          int // counts from 1, by PostgreSQL
	Failures   int // failures of the delivery before this attempt
	URL        string
	ReplayID   *uuid.UUID           // the replay that made the delivery; nil: none did
	Secrets    []string             // plain, newest first
	Keys       []ed25519.PrivateKey // of the secrets that have one, newest first
	Body       []byte
	Fault      string // why it can't be made, if it can't: a sentence for the log
}

// A Response is what the log keeps of an attempt's end.
type Response struct {
	Outcome
	Took      time.Duration // from before the dial to the last byte read
	Timing    egress.Timing // how that was spent, and on what kind of address
	Sent      []byte        // the request's header as lines, see sentLines; nil if none was made
	Headers   []byte        // "Name: value" lines, at most maxResponseHeaders
	Body      []byte        // at most maxResponseBody
	Truncated bool          // the body was longer, or did not end within bodyGrace, or broke off
}

// request is the POST of an attempt, signed at a time.
func request(ctx context.Context, a Attempt, now time.Time) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(a.Body))
	if err != nil {
		return nil, fmt.Errorf("make request: invalid url") // err quotes it
	}
	r.Header, err = signing.Headers(a.EventID.String(), now, a.Body, a.Secrets, a.Keys...)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", userAgent)
	if a.ReplayID != nil {
		r.Header.Set(headerReplay, a.ReplayID.String())
	}
	// net/http sends a POST again by itself only if a kept connection turned
	// out to be closed before a byte was written. It must get no
	// Idempotency-Key, which would let it repeat more than that.
	return r, nil
}

// post makes an attempt. It takes at most timeout, whatever the receiver does.
func post(ctx context.Context, client *http.Client, a Attempt, timeout time.Duration) Response {
	if a.Fault != "" {
		return Response{Outcome: Outcome{Class: classUnsendable, Message: a.Fault}}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, trace := egress.NewTrace(ctx)
	start := time.Now()
	r, err := request(ctx, a, start)
	if err != nil {
		return Response{Outcome: Outcome{Class: classUnsendable, Message: messageUnsendable}}
	}
	out := Response{Sent: sentLines(r)}
	resp, err := client.Do(r)
	if err != nil {
		out.Took, out.Timing = time.Since(start), trace.Timing()
		out.Outcome = unanswered(err, out.Timing)
		return out
	}
	defer resp.Body.Close()
	out.Outcome = answered(resp.StatusCode).asking(resp.Header, time.Now())
	out.Headers = headerLines(resp.Header)
	out.Body, out.Truncated = readBody(resp, cancel)
	out.Took, out.Timing = time.Since(start), trace.Timing()
	return out
}

// readBody reads what is kept of a body, for bodyGrace at most: then it calls
// cancel, which ends the request. A body that stalls or breaks changes nothing
// about the outcome. Whoever reads less than the whole closes the connection.
func readBody(resp *http.Response, cancel context.CancelFunc) (body []byte, truncated bool) {
	if resp.Body == http.NoBody {
		return nil, false
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// What follows is no body: net/http hands over the bare connection, and
		// no context ends a Read on it.
		return nil, false
	}
	grace := time.AfterFunc(bodyGrace, cancel)
	defer grace.Stop()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponseBody+1))
	if len(body) > maxResponseBody {
		return body[:maxResponseBody], true
	}
	return body, err != nil
}
