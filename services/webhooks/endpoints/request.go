package endpoints

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/webjson"
)

// userKey is where authenticate leaves the user in the context, for register.
type userKey struct{}

// authenticate lets requests through that say who makes them, before anything
// else of them is looked at.
func (a *API) authenticate(hc huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(hc)
	if hc.Operation().Metadata[forOperators] != nil && a.authenticateKey(hc, next) {
		return
	}
	user, err := a.verifier.User(r)
	switch {
	case errors.Is(err, auth.ErrCrossOrigin):
		webjson.WriteError(w, http.StatusForbidden, "cookie: is taken from pages of the same origin only; other callers send Authorization: Bearer")
	case errors.Is(err, auth.ErrUnavailable):
		w.Header().Set("Retry-After", auth.RetryAfter)
		webjson.WriteError(w, http.StatusServiceUnavailable, "the token can't be checked right now: try again in "+auth.RetryAfter+" s")
	case err != nil:
		w.Header().Set("WWW-Authenticate", "Bearer")
		webjson.WriteError(w, http.StatusUnauthorized, "Unauthorized")
	default:
		next(huma.WithValue(hc, userKey{}, user))
	}
}

// checkRequest holds a request to what huma leaves open: a query that can be
// read in one way only, a body that is bounded and strict JSON, and an
// Idempotency-Key that can be one.
func (a *API) checkRequest(hc huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(hc)
	// Answers are JSON whatever the request accepts; huma would else take "json" for a media type.
	r.Header.Set("Accept", "application/json")
	w.Header().Set("Cache-Control", "no-store") // some answers hold a secret, all are one user's
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := checkQuery(r.URL.RawQuery); err != nil {
		webjson.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	var body []byte
	if hc.Operation().RequestBody != nil {
		var ok bool
		if body, ok = a.readBody(w, r); !ok {
			return
		}
	}
	if r.Method != http.MethodPost {
		next(hc)
		return
	}
	key, err := readKey(r, body)
	if err != nil {
		webjson.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	next(huma.WithValue(hc, keyedRequestKey{}, key))
}

// readBody reads a body, checks it, and puts it back for huma; if it can't be
// taken, it answers and ok is false.
func (a *API) readBody(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	if !isJSON(r.Header.Get("Content-Type")) {
		webjson.WriteError(w, http.StatusUnsupportedMediaType, "content-type: must be application/json")
		return nil, false
	}
	if body, ok = webjson.ReadBody(w, r, int64(a.cfg.MaxBodyBytes)); !ok {
		return nil, false
	}
	if err := checkJSON(body); err != nil {
		webjson.WriteError(w, http.StatusBadRequest, err.Error())
		return nil, false
	}
	r.Header.Set("Content-Type", "application/json")
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, true
}

// checkQuery refuses what would be read as something else than was meant.
func checkQuery(raw string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return invalid("query", "must be names and values joined by = and &, percent-encoded")
	}
	for name, list := range values {
		if len(list) > 1 {
			return invalid("query", "has "+quoted(name)+" more than once")
		}
	}
	return nil
}

// isJSON takes a missing content type too.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == "application/json"
}

// An ID is a UUID in a path, in its one usual spelling.
type ID uuid.UUID

// UnmarshalText accepts 36 characters, as in 01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := uuid.ParseBytes(text)
	if err != nil || len(text) != 36 {
		return errors.New("must be a UUID of 36 characters")
	}
	*id = ID(parsed)
	return nil
}
