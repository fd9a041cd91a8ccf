package webjson

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// ReadBody returns the body of r if it has at most limit bytes, which must not
// exceed [MaxBodyBytes]. Otherwise it answers 413, or 400 if the body breaks off, and
// ok is false.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body, true
	case errors.As(err, &tooLarge):
		writeTooLarge(w, tooLarge.Limit)
	default:
		WriteError(w, http.StatusBadRequest, "body: ended before it was complete")
	}
	return nil, false
}

func writeTooLarge(w http.ResponseWriter, limit int64) {
	WriteError(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("body: must be at most %d bytes", limit))
}
