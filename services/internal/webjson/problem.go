// Package webjson holds what all our HTTP routes have in common: answers are
// JSON, errors are problem details with a sentence, and whatever a stranger sends
// is bounded before a handler sees it.
package webjson

import (
	"encoding/json"
	"net/http"
)

const contentType, problemType = "application/json", "application/problem+json"

// A Problem is the body of every error answer: problem details (RFC 9457) of the
// type about:blank, plus the member "error" that DevCard's clients read. It is
// an error itself, in the form that huma takes as the answer of an operation.
type Problem struct {
	Title   string `json:"title"`  // the status in words, such as "Not Found"
	Status  int    `json:"status"` // the HTTP status, 400 to 599
	Detail  string `json:"detail"` // the same sentence as in Message, where readers of RFC 9457 look
	Message string `json:"error"`  // a sentence for the caller; names field and rule, never anything internal
}

// NewProblem returns the problem for status and sentence.
func NewProblem(status int, sentence string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: sentence, Message: sentence}
}

// Error returns the sentence.
func (p *Problem) Error() string { return p.Message }

// GetStatus returns the HTTP status, for huma.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the media type of the body, for huma.
func (p *Problem) ContentType(string) string { return problemType }

// WriteError answers with status and the problem for it. Headers that the handler
// set for the answer it meant to give are dropped where they would be wrong for
// this one.
func WriteError(w http.ResponseWriter, status int, sentence string) {
	h := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified", "Cache-Control"} {
		h.Del(name)
	}
	write(w, status, problemType, NewProblem(status, sentence))
}

// WriteProblem answers an error with a v that embeds [Problem] and adds members.
func WriteProblem(w http.ResponseWriter, status int, v any) {
	write(w, status, problemType, v)
}

// Write answers with status and v as JSON. If v can't be encoded, which is a
// fault of ours, it panics before anything is written, so that [Handler] logs it and
// answers 500.
func Write(w http.ResponseWriter, status int, v any) {
	write(w, status, contentType, v)
}

func write(w http.ResponseWriter, status int, mediaType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("X-Content-Type-Options", "nosniff") // what a stranger wrote is never taken for HTML
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client is gone, there is nobody to tell
}
