package endpoints

import (
	"net/http"

	"github.com/cardwire/cardwire/services/internal/replays"
)

// replayRoutes registers replays: of users to their own endpoints, and of
// operators, who show an API key, to any.
func (a *API) replayRoutes(limits rates) {
	const all, one = "/api/replays", "/api/replays/{replayId}"
	register(a, route{
		method: http.MethodPost, path: all, id: "startReplay", status: http.StatusAccepted,
		summary: "Deliver events of a range once more",
		about: "Makes new deliveries of events of the range, oldest first, in the background. webhook-id is that of the event, so that a receiver can drop what it has seen; " +
			"the header webhook-replay has the id of the replay. First tries of new events go before. With dryRun it only says what it would do, and answers 200. " +
			"While another replay has not ended that may deliver some of the same events to the same endpoint, it is refused, and the answer names the other.",
		errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType},
		limit:  limits.recovery, operators: true, also: "StartedReplay",
	}, a.startReplay)
	register(a, route{
		method: http.MethodGet, path: all, id: "listReplays", status: http.StatusOK,
		summary: "List replays",
		about:   "The caller's replays, newest first; for operators, everybody's. Go on with nextCursor until that is null.", operators: true,
	}, a.replays)
	register(a, route{
		method: http.MethodGet, path: one, id: "getReplay", status: http.StatusOK,
		summary: "Get a replay, and how far it is",
		errors:  []int{http.StatusNotFound}, operators: true,
	}, a.replay)
	for _, change := range []struct{ path, id, state, summary, about string }{
		{"/pause", "pauseReplay", replays.Paused, "Pause a replay", "It makes no more deliveries until it is resumed. Those that it has made go on."},
		{"/resume", "resumeReplay", replays.Running, "Resume a replay", "It goes on where it was."},
		{"/cancel", "cancelReplay", replays.Cancelled, "Cancel a replay", "For good. What it has made stays, and is delivered."},
	} {
		register(a, route{
			method: http.MethodPost, path: one + change.path, id: change.id, status: http.StatusOK,
			summary: change.summary, about: change.about + " A replay that is so already stays as it is; one that has ended is refused.",
			errors: []int{http.StatusNotFound, http.StatusConflict}, operators: true,
		}, a.setReplay(change.state))
	}
}
