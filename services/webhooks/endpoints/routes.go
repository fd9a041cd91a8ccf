package endpoints

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/clientrate"
)

// queryTimeout bounds what a request does in the database, waiting for a
// connection included. Then it is 503: by now the client would ask again anyway.
const queryTimeout = 5 * time.Second

// routes registers what the API can do. Each route answers 401 without a user, and
// knows nothing but what belongs to that user.
func (a *API) routes() error {
	const endpoint = "/api/webhooks/{id}"
	limits, err := a.rates()
	if err != nil {
		return err
	}
	register(a, route{
		method: http.MethodPost, path: "/api/webhooks", id: "createEndpoint", status: http.StatusCreated,
		summary: "Register an endpoint",
		about:   "The answer holds the signing secret. It is shown this once: keep it, or repeat the request with the same Idempotency-Key within 24 h.",
		limit:   limits.create,
		errors:  []int{http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType},
	}, a.create)
	register(a, route{
		method: http.MethodGet, path: "/api/webhooks", id: "listEndpoints", status: http.StatusOK,
		summary: "List endpoints",
		about:   "The caller's endpoints, newest first.",
	}, a.list)
	register(a, route{
		method: http.MethodGet, path: endpoint, id: "getEndpoint", status: http.StatusOK,
		summary: "Get an endpoint",
		errors:  []int{http.StatusNotFound},
	}, a.get)
	register(a, route{
		method: http.MethodPatch, path: endpoint, id: "updateEndpoint", status: http.StatusOK,
		summary: "Change an endpoint",
		about: "What is missing stays as it is, null resets what may be null, and to what is no change nothing happens. " +
			"Changes hold from the next attempt on, also of what is pending.",
		errors: []int{http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType},
	}, a.update)
	register(a, route{
		method: http.MethodDelete, path: endpoint, id: "deleteEndpoint", status: http.StatusNoContent,
		summary: "Delete an endpoint",
		about:   "Its secrets are deleted and its deliveries that are still pending are given up.",
		errors:  []int{http.StatusNotFound},
	}, a.delete)
	register(a, route{
		method: http.MethodPatch, path: endpoint + "/rotate-secret", id: "rotateSecret", status: http.StatusOK,
		summary: "Give an endpoint a new secret",
		about: "Requests are signed with both secrets, an item of webhook-signature each, until the old one ends. " +
			"X-DevCard-Signature has room for one, and is made with the new secret at once. " +
			"An asymmetric endpoint gets a new key pair with it, and the old one ends with the old secret. " +
			"At most three old secrets are valid at once: a further rotation is refused until one has ended, unless overlap=0s ends them all.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, a.rotate)
	register(a, route{
		method: http.MethodGet, path: "/api/audit-log", id: "listAuditLog", status: http.StatusOK,
		summary: "Read the audit log",
		about:   "Who did what to the caller's endpoints, deleted ones included, newest first. Go on with nextCursor until that is null.",
	}, a.auditLog)
	register(a, route{
		method: http.MethodGet, path: "/api/event-types", id: "listEventTypes", status: http.StatusOK,
		summary: "List event types",
		about:   "The types that endpoints can ask for, and webhook.test, in the order of EVENT_TYPES_FILE, each with a JSON Schema of its data and an example of what is POSTed.",
	}, a.eventTypes)
	a.logRoutes(endpoint, limits)
	a.replayRoutes(limits)
	return nil
}

// A route is what is said about an operation besides its shapes.
type route struct {
	method, path   string
	id             string // operationId of the document: names of functions in generated clients
	summary, about string
	status         int                          // of success
	errors         []int                        // besides those of every route
	limit          *clientrate.Keyed[uuid.UUID] // of each user, held by once; nil is none
	operators      bool                         // whether operators may call it with an API key
	also           string                       // the schema of what is answered by 200, if that is not status
}

// register adds a route. Its handler is called with the user that the request
// comes from, a bounded context, and input that follows the schema.
func register[I, O any](a *API, r route, handle func(ctx context.Context, user uuid.UUID, in *I) (*O, error)) {
	if r.limit != nil {
		r.errors = append(r.errors, http.StatusTooManyRequests)
	}
	op := huma.Operation{
		Method: r.method, Path: r.path, OperationID: r.id, Summary: r.summary, Description: r.about,
		DefaultStatus: r.status, Responses: errorResponses(append([]int{
			http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusInternalServerError, http.StatusServiceUnavailable,
		}, r.errors...)),
		Security: []map[string][]string{{schemeBearer: {}}, {schemeCookie: {}}},
		// checkRequest has read the body, within its limit and the server's deadline.
		MaxBodyBytes: -1, BodyReadTimeout: -1,
	}
	if r.operators {
		op.Security = append(op.Security, map[string][]string{schemeKey: {}})
		op.Metadata = map[string]any{forOperators: true}
	}
	if r.also != "" {
		op.Responses["200"] = &huma.Response{
			Description: http.StatusText(http.StatusOK),
			Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/" + r.also}}},
		}
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		user := ctx.Value(userKey{}).(uuid.UUID)
		work, cancel := context.WithTimeout(limited(ctx, r.limit), queryTimeout)
		defer cancel()
		out, err := handle(work, user, in)
		if err != nil {
			return nil, a.answer(ctx, r.id, err)
		}
		return out, nil
	})
}

// errorResponses documents errors. Their schema is the one that huma registers for its errors.
func errorResponses(statuses []int) map[string]*huma.Response {
	responses := make(map[string]*huma.Response)
	for _, status := range statuses {
		response := &huma.Response{
			Description: http.StatusText(status),
			Content: map[string]*huma.MediaType{
				"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}},
			},
		}
		if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
			response.Headers = map[string]*huma.Param{"Retry-After": {
				Description: "Seconds to wait before asking again.",
				Schema:      &huma.Schema{Type: huma.TypeInteger, Examples: []any{2}},
			}}
		}
		responses[strconv.Itoa(status)] = response
	}
	return responses
}
