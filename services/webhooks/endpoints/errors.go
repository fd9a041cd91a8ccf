package endpoints

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cardwire/cardwire/services/internal/clientrate"
	"github.com/cardwire/cardwire/services/internal/replays"
	"github.com/cardwire/cardwire/services/internal/sqlstate"
	"github.com/cardwire/cardwire/services/internal/webjson"
)

// retryAfter is what a client is told, in seconds, when the database does not
// answer: a failover takes a few seconds, and there is nothing to lose by asking again.
const retryAfter = "2"

// errNoDelivery means that the endpoint has no such delivery, or has it no
// longer: retention took it.
var errNoDelivery = errors.New("no such delivery")

// errNoRecovery means that the endpoint has no such recovery.
var errNoRecovery = errors.New("no such recovery")

// A conflictError is a request that what is there does not allow now. Its text
// is for the caller.
type conflictError struct{ sentence string }

func (e *conflictError) Error() string { return e.sentence }

// Conflicts of what has deliveries sent.
var (
	errInactive  = &conflictError{"isActive: must be true: the endpoint is disabled, and gets nothing until it is enabled"}
	errInFlight  = &conflictError{"an attempt of the delivery is in flight: try again when it has ended"}
	errEventGone = &conflictError{"the delivery's event, or its body, is no longer kept, so it can't be sent again"}
)

// An invalidError is a request that breaks a rule. Its text is for the caller:
// it names field and rule.
type invalidError struct{ field, rule string }

func (e *invalidError) Error() string { return e.field + ": " + e.rule }

func invalid(field, rule string) error { return &invalidError{field, rule} }

// A Problem is the body of every error: webjson's, with what the OpenAPI
// document says about it.
type Problem struct {
	Title   string `json:"title" doc:"The status in words." maxLength:"64" example:"Bad Request"`
	Status  int    `json:"status" doc:"The HTTP status." minimum:"400" maximum:"599" example:"400"`
	Detail  string `json:"detail" doc:"The same sentence as in error, where readers of RFC 9457 look." maxLength:"8192" example:"url: must use https"`
	Message string `json:"error" doc:"What is wrong, in a sentence that names the field and the rule." maxLength:"8192" example:"url: must use https"`
}

func newProblem(status int, sentence string) *Problem {
	p := Problem(*webjson.NewProblem(status, sentence))
	return &p
}

// Error returns the sentence.
func (p *Problem) Error() string { return p.Message }

// GetStatus returns the HTTP status, for huma.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the media type of the body, for huma.
func (p *Problem) ContentType(contentType string) string {
	return webjson.NewProblem(0, "").ContentType(contentType)
}

// problemOf is the one table from error to answer. fault is true if the error
// is ours or the database's and belongs into the log; it is never part of the answer.
func (a *API) problemOf(err error) (p *Problem, fault bool) {
	var (
		broken   *invalidError
		conflict *conflictError
		tooOften *rateError
		wrong    *replays.InvalidError
		overlap  *replays.OverlapError
		state    *replays.StateError
	)
	switch {
	case errors.As(err, &broken):
		return newProblem(http.StatusBadRequest, broken.Error()), false
	case errors.Is(err, ErrNotFound):
		return newProblem(http.StatusNotFound, "there is no such endpoint"), false
	case errors.Is(err, errNoDelivery):
		return newProblem(http.StatusNotFound, "there is no such delivery"), false
	case errors.Is(err, errNoRecovery):
		return newProblem(http.StatusNotFound, "there is no such recovery"), false
	case errors.Is(err, replays.ErrNoEndpoint):
		return newProblem(http.StatusNotFound, "there is no such endpoint"), false
	case errors.Is(err, replays.ErrNotFound):
		return newProblem(http.StatusNotFound, "there is no such replay"), false
	case errors.Is(err, replays.ErrInactive):
		return newProblem(http.StatusConflict, errInactive.Error()), false
	case errors.As(err, &wrong):
		return newProblem(http.StatusBadRequest, wrong.Error()), false
	case errors.As(err, &overlap):
		return newProblem(http.StatusConflict, overlap.Error()), false
	case errors.As(err, &state):
		return newProblem(http.StatusConflict, state.Error()), false
	case errors.As(err, &tooOften):
		return newProblem(http.StatusTooManyRequests, tooOften.Error()), false
	case errors.As(err, &conflict):
		return newProblem(http.StatusConflict, conflict.Error()), false
	case errors.Is(err, ErrTooMany):
		return newProblem(http.StatusConflict, fmt.Sprintf("Maximum of %d webhook endpoints per user reached: delete one first", a.cfg.MaxEndpoints)), false
	case errors.Is(err, ErrManySecrets):
		return newProblem(http.StatusConflict, fmt.Sprintf("secret: was rotated %d times, and each old one is valid until its overlap ends: "+
			"wait for that, or end them all now with ?overlap=0s", keepOldSecrets)), false
	case ourFault(err):
		return newProblem(http.StatusInternalServerError, "something went wrong on our side"), true
	default: // no connection, a timeout, a server that is stopping or read-only, a deadlock
		return newProblem(http.StatusServiceUnavailable, "the database does not answer: try again in "+retryAfter+" s"), true
	}
}

// ourFault says whether asking again can't help: a secret that does not open or
// seal, or a statement that PostgreSQL objects to.
func ourFault(err error) bool {
	return sqlstate.AboutData(err) || sqlstate.AboutStatement(err) || errors.Is(err, errSecret)
}

// answer turns an error into what huma answers, and logs it if it is a fault.
func (a *API) answer(ctx context.Context, operation string, err error) error {
	p, fault := a.problemOf(err)
	switch {
	case fault && errors.Is(ctx.Err(), context.Canceled):
		a.log.Debug().Err(err).Str("operation", operation).Msg("request given up by its client")
	case fault:
		a.log.Error().Err(err).Str("operation", operation).Int("status", p.Status).Msg("request failed")
	}
	var tooOften *rateError
	if errors.As(err, &tooOften) {
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {clientrate.RetryAfter(tooOften.wait)}})
	}
	if p.Status == http.StatusServiceUnavailable {
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {retryAfter}})
	}
	return p
}
