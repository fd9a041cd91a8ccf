package endpoints

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/apikeys"
	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/webjson"
)

// forOperators in an operation's metadata says that it takes API keys too.
const forOperators = "operators"

// operatorKey is where authenticateKey leaves in the context that an operator calls.
type operatorKey struct{}

// authenticateKey handles a request that carries an API key, and says whether it
// does. Where a user's id stands else, the key's does: it has its own rates
// and Idempotency-Keys.
func (a *API) authenticateKey(hc huma.Context, next func(huma.Context)) bool {
	r, w := humago.Unwrap(hc)
	key, err := a.keys.Key(r, apikeys.Operator)
	switch {
	case errors.Is(err, apikeys.ErrNoKey):
		return false
	case errors.Is(err, apikeys.ErrScope):
		webjson.WriteError(w, http.StatusForbidden, "the API key lacks the scope "+string(apikeys.Operator))
	case errors.Is(err, apikeys.ErrInvalidKey):
		w.Header().Set("WWW-Authenticate", "Bearer")
		webjson.WriteError(w, http.StatusUnauthorized, "Unauthorized")
	case err != nil:
		a.log.Warn().Err(err).Msg("API key not checked")
		w.Header().Set("Retry-After", auth.RetryAfter)
		webjson.WriteError(w, http.StatusServiceUnavailable, "the API key can't be checked right now: try again in "+auth.RetryAfter+" s")
	default:
		next(huma.WithValue(huma.WithValue(hc, userKey{}, key.ID), operatorKey{}, true))
	}
	return true
}

// A caller is who calls a route that operators may call too.
type caller struct {
	owner *uuid.UUID // nil: an operator, who may do it to everybody's
	actor string     // as in the audit log
}

// callerOf is who calls. id is what the handler was given as the user.
func callerOf(ctx context.Context, id uuid.UUID) caller {
	if ctx.Value(operatorKey{}) != nil {
		return caller{actor: "key:" + id.String()}
	}
	return caller{&id, "user:" + id.String()}
}
