package webjson

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/rs/zerolog"
)

const (
	// MaxURLBytes bounds path and query together. Our longest URL has some
	// hundred bytes; what is longer is a mistake or a probe, and would land in logs.
	MaxURLBytes = 8 << 10
	// MaxBodyBytes bounds the body of a request, whatever its route does, unless that is
	// made by [WithBodyLimit]. It is above the largest that a route takes, which it
	// bounds itself, see [ReadBody].
	MaxBodyBytes = 1 << 20

	// What a panic may add to the log: its value can hold what a stranger wrote.
	maxPanicBytes = 512
	maxStackBytes = 8 << 10
)

// Handler serves mux with our conventions. Unknown paths (404) and methods (405,
// with Allow) are answered as a [Problem] in place of net/http's text, without
// the redirect that net/http sends first if the path is not clean. A URL beyond
// [MaxURLBytes] is 414 and a body declared beyond [MaxBodyBytes] is 413, before any
// route; reading beyond it fails with *[http.MaxBytesError]. A panic is one error
// line in log and 500, or a cut connection if the answer has begun; it ends
// nothing else. [http.ErrAbortHandler] is passed on.
func Handler(mux *http.ServeMux, log zerolog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &tracker{ResponseWriter: w}
		defer recovered(t, r, log)
		switch {
		case len(r.RequestURI) > MaxURLBytes:
			WriteError(t, http.StatusRequestURITooLong, fmt.Sprintf("url: must be at most %d bytes", MaxURLBytes))
			return
		case r.RequestURI == "*":
			WriteError(t, http.StatusBadRequest, "url: must be a path")
			return
		}
		h, pattern := mux.Handler(r)
		limit := int64(MaxBodyBytes)
		if own, ok := h.(*limited); ok {
			limit = own.limit
		}
		if r.ContentLength > limit {
			writeTooLarge(t, limit)
			return
		}
		r.Body = http.MaxBytesReader(t, r.Body, limit)
		if pattern == "" {
			noRoute(t, r, h)
			return
		}
		mux.ServeHTTP(t, r)
	})
}

// A limited route has a bound of its own on the body.
type limited struct {
	http.Handler
	limit int64
}

// WithBodyLimit makes a route, to be registered as it is, whose requests may have
// a body of that many bytes instead of [MaxBodyBytes].
func WithBodyLimit(limit int64, h http.Handler) http.Handler { return &limited{h, limit} }

// noRoute answers what no pattern matches. h is net/http's own answer, which is
// asked only whether another method would do.
func noRoute(w http.ResponseWriter, r *http.Request, h http.Handler) {
	answer := &discarded{header: http.Header{}}
	h.ServeHTTP(answer, r)
	if answer.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", answer.header.Get("Allow"))
		WriteError(w, http.StatusMethodNotAllowed, "this method is not allowed here")
		return
	}
	WriteError(w, http.StatusNotFound, "there is nothing here")
}

// A discarded answer keeps status and header, and drops the body.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d *discarded) WriteHeader(status int)      { d.status = status }

// recovered ends a panic of the handler; it is deferred.
func recovered(t *tracker, r *http.Request, log zerolog.Logger) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	// Method and path as the mux knows them, not as the stranger wrote them.
	log.Error().Str("pattern", r.Pattern).Str("panic", bounded(fmt.Sprint(v), maxPanicBytes)).
		Str("stack", bounded(string(debug.Stack()), maxStackBytes)).Msg("request panicked")
	if t.begun {
		// Half an answer must not look like a whole one: cut the connection.
		panic(http.ErrAbortHandler)
	}
	WriteError(t, http.StatusInternalServerError, "something went wrong on our side")
}

func bounded(s string, limit int) string {
	if len(s) > limit {
		return s[:limit]
	}
	return s
}

// A tracker knows whether the answer has begun. [http.ResponseController] finds
// everything else through Unwrap.
type tracker struct {
	http.ResponseWriter
	begun bool
}

func (t *tracker) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		t.begun = true
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracker) Write(b []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(b)
}

// Flush implements [http.Flusher] for those who look for that and not for
// [http.ResponseController].
func (t *tracker) Flush() {
	t.begun = true
	_ = http.NewResponseController(t.ResponseWriter).Flush()
}

func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }
