package deliver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/signing"
)

// What is read and kept of a response.
const (
	maxResponseBody    = 64 << 10
	maxResponseHeaders = 8 << 10
)

// userAgent names us to receivers.
const userAgent = "Cardwire/1"

// An Attempt is one HTTP try of a delivery, claimed and not yet made.
type Attempt struct {
	DeliveryID uuid.UUID
	EventID    uuid.UUID
	EndpointID uuid.UUID
	EventType  string
	N          int // counts from 1, by PostgreSQL
	Failures   int // failures of the delivery before this attempt
	URL        string
	Secrets    []string // plain, newest first
	Body       []byte
	Fault      string // why it can't be made, if it can't: a sentence for the log
}

// A Response is what the log keeps of an attempt's end.
type Response struct {
	Outcome
	Took       time.Duration // from before the dial to the last byte read
	Headers    []byte        // "Name: value" lines, at most maxResponseHeaders
	Body       []byte        // at most maxResponseBody
	Truncated  bool          // the body was longer
	RetryAfter time.Duration
}

// request is the POST of an attempt, signed at a time.
func request(ctx context.Context, a Attempt, now time.Time) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(a.Body))
	if err != nil {
		return nil, fmt.Errorf("make request: invalid url") // err quotes it
	}
	r.Header, err = signing.Headers(a.EventID.String(), now, a.Body, a.Secrets)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", userAgent)
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
	start := time.Now()
	r, err := request(ctx, a, start)
	if err != nil {
		return Response{Outcome: Outcome{Class: classUnsendable, Message: "The request could not be made."}}
	}
	resp, err := client.Do(r)
	if err != nil {
		return Response{Outcome: unanswered(err), Took: time.Since(start)}
	}
	defer resp.Body.Close()
	// The status decides. A body that stalls or breaks after it changes nothing.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxResponseBody+1))
	out := Response{Outcome: answered(resp.StatusCode), Headers: headerLines(resp.Header), Took: time.Since(start)}
	out.Truncated = len(body) > maxResponseBody
	out.Body = body[:min(len(body), maxResponseBody)]
	return out
}

// headerLines writes a header as lines in order of their names, as far as they fit.
func headerLines(h http.Header) []byte {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	for _, name := range names {
		for _, value := range h[name] {
			if b.Len()+len(name)+len(value)+3 > maxResponseHeaders {
				return b.Bytes()
			}
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	return b.Bytes()
}
