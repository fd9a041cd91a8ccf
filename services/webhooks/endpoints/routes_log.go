package endpoints

import "net/http"

// logRoutes registers the delivery log, and what has deliveries sent again.
func (a *API) logRoutes(endpoint string, limits rates) {
	const (
		one        = "/deliveries/{deliveryId}"
		recoveries = "/recoveries"
	)
	register(a, route{
		method: http.MethodGet, path: endpoint + "/deliveries", id: "listDeliveries", status: http.StatusOK,
		summary: "Read the delivery log",
		about: "What was, is and will be sent to the endpoint, newest event first, as far back as retention goes. " +
			"The newest are read by page; all of it, and what filters let through, by cursor: go on with nextCursor until that is null. " +
			"A page with filters may be short, or empty, and go on all the same: each looks at 2,000 deliveries at most.",
		errors: []int{http.StatusNotFound},
	}, a.deliveries)
	register(a, route{
		method: http.MethodGet, path: endpoint + one, id: "getDelivery", status: http.StatusOK,
		summary: "Get a delivery with its attempts",
		errors:  []int{http.StatusNotFound},
	}, a.delivery)
	register(a, route{
		method: http.MethodPost, path: endpoint + one + "/resend", id: "resendDelivery", status: http.StatusAccepted,
		summary: "Send a delivery again",
		about: "Whether it was delivered, was given up or waits, it is due at once; its webhook-id stays. " +
			"What had ended goes through the whole retry schedule again. What waits for its endpoint may have to wait on. " +
			"Refused while an attempt is in flight, while the endpoint is disabled, and when its event is no longer kept.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
		limit:  limits.resend,
	}, a.resend)
	register(a, route{
		method: http.MethodPost, path: endpoint + "/recover", id: "recoverDeliveries", status: http.StatusAccepted,
		summary: "Send again what failed in a range of time",
		about: "Has all deliveries sent again that were given up, of events of that range; with missing, also what was never made for the endpoint: " +
			"events of the range of types that it asks for, be it that it did not exist then. " +
			"It goes on in the background, oldest first, at 1,000 deliveries a second at most, together with all other recoveries. " +
			"An endpoint has one at a time. It ends early if the endpoint is disabled or deleted.",
		errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType},
		limit:  limits.recovery,
	}, a.startRecovery)
	register(a, route{
		method: http.MethodGet, path: endpoint + recoveries, id: "listRecoveries", status: http.StatusOK,
		summary: "List recoveries",
		about:   "The endpoint's recoveries, newest first.",
		errors:  []int{http.StatusNotFound},
	}, a.recoveries)
	register(a, route{
		method: http.MethodGet, path: endpoint + recoveries + "/{recoveryId}", id: "getRecovery", status: http.StatusOK,
		summary: "Get a recovery",
		errors:  []int{http.StatusNotFound},
	}, a.recovery)
	register(a, route{
		method: http.MethodPost, path: endpoint + "/test", id: "testEndpoint", status: http.StatusAccepted,
		summary: "Send a test event",
		about: "An event of type webhook.test goes to this endpoint alone, whatever types it asks for, in the way of any other: " +
			"signed, logged, and retried if it fails. Its data has the members endpointId and message.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
		limit:  limits.test,
	}, a.test)
	register(a, route{
		method: http.MethodGet, path: endpoint + "/summary", id: "getSummary", status: http.StatusOK,
		summary: "Get what an endpoint's last 24 hours were like",
		about:   "Counts are of the newest 10,000 deliveries of that time, durations of the attempts of the newest 500: member since says how far back the counts go.",
		errors:  []int{http.StatusNotFound},
	}, a.summary)
}
