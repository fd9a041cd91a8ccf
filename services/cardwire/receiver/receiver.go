// Package receiver is the sample receiver of cardwire dev: what an integrator
// would write. It verifies both signatures of each POST, prints a line, and
// answers 204, or 401 if a signature does not hold.
package receiver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/services/internal/webjson"
)

// Path is where the receiver is mounted. With ?status=N it answers N (200 to 599)
// to what is signed well, so that retries can be watched.
const Path = "/sample-receiver"

const (
	// maxBody is above the largest event body, 256 KiB.
	maxBody = 300 << 10
	// secretsTimeout bounds reading the secrets: two small queries.
	secretsTimeout = 2 * time.Second
)

// A Receiver is the handler. It is safe for concurrent use.
type Receiver struct {
	// Secrets returns the secrets of all endpoints that lead here. It is asked
	// at the first POST, and again when a signature does not hold, so that a
	// secret may be rotated and an endpoint added while the receiver runs.
	Secrets func(context.Context) ([]string, error)
	Out     io.Writer        // gets one line per POST, in one Write
	Now     func() time.Time // nil: time.Now

	mu    sync.Mutex
	known []string
}

// ServeHTTP takes one POST.
func (rc *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, ok := wantedStatus(r.URL.Query().Get("status"))
	if !ok {
		webjson.WriteError(w, http.StatusBadRequest, "status: must be a number from 200 to 599")
		return
	}
	body, ok := webjson.ReadBody(w, r, maxBody)
	if !ok {
		return
	}
	now := time.Now()
	if rc.Now != nil {
		now = rc.Now()
	}
	verdict := "signatures ok"
	if err := rc.verify(r, body, now); err != nil {
		status, verdict = http.StatusUnauthorized, "BAD ("+err.Error()+")"
	}
	fmt.Fprintf(rc.Out, "%s  %s  %s  %d\n", now.Format(time.TimeOnly), describe(r.Header.Get(signing.HeaderID), body), verdict, status)
	w.WriteHeader(status)
}

// verify returns why a POST is not from Cardwire. The error quotes nothing of it.
func (rc *Receiver) verify(r *http.Request, body []byte, now time.Time) error {
	rc.mu.Lock()
	known := rc.known
	rc.mu.Unlock()
	err := signing.Verify(r.Header, body, known, now, signing.Tolerance)
	if err == nil {
		return nil
	}
	// Perhaps the secret is newer than what we know.
	ctx, cancel := context.WithTimeout(r.Context(), secretsTimeout)
	defer cancel()
	fresh, readErr := rc.Secrets(ctx)
	if readErr != nil {
		return fmt.Errorf("read secrets: %w", readErr)
	}
	rc.mu.Lock()
	rc.known = fresh
	rc.mu.Unlock()
	if slices.Equal(fresh, known) {
		return err
	}
	return signing.Verify(r.Header, body, fresh, now, signing.Tolerance)
}

// wantedStatus is the status that the endpoint's URL asks for, 204 if it asks
// for none.
func wantedStatus(s string) (status int, ok bool) {
	if s == "" {
		return http.StatusNoContent, true
	}
	status, err := strconv.Atoi(s)
	return status, err == nil && status >= 200 && status <= 599
}
