package publish

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/webjson"
)

// A Result is what became of one event of a request.
type Result struct {
	Index    int    `json:"index" doc:"Place of the event in the request, from 0." minimum:"0" example:"0"`
	ID       string `json:"id,omitempty" doc:"The event's id, which receivers get as webhook-id. If it was not accepted, repeat it with this." format:"uuid" example:"019ab3c4-5b6f-7c3d-9a1f-2e6b8d4f0a35"`
	Status   int    `json:"status" doc:"202 accepted, 400 invalid, 409 the id is another event's, 413 too large, 503 not accepted: may be repeated." example:"202"`
	Repeated bool   `json:"repeated,omitempty" doc:"true if the event had been accepted before: nothing has changed." example:"false"`
	Error    string `json:"error,omitempty" doc:"What is wrong, in a sentence." example:"type: is not declared"`
	Field    string `json:"field,omitempty" doc:"The member that is wrong." example:"type"`
	Pointer  string `json:"pointer,omitempty" doc:"JSON pointer to what breaks the schema of the type." example:"/data/amount"`
	Rule     string `json:"rule,omitempty" doc:"The rule that it breaks." example:"is not declared"`
}

// Results is the answer to a batch.
type Results struct {
	Accepted int      `json:"accepted" doc:"How many events were accepted, repeats included." example:"2"`
	Results  []Result `json:"results" doc:"One for each event, in order."`
}

// A Problem is an answer that is no 202 or 207: the usual one, and what is known besides.
type Problem struct {
	webjson.Problem
	ID      string   `json:"id,omitempty"`
	Field   string   `json:"field,omitempty"`
	Pointer string   `json:"pointer,omitempty"`
	Rule    string   `json:"rule,omitempty"`
	Results []Result `json:"results,omitempty"` // of a batch
}

func (it *item) result() Result {
	r := Result{Index: it.index, Status: it.status(), Repeated: it.repeated}
	if it.event.ID != uuid.Nil {
		r.ID = it.event.ID.String()
	}
	if it.fault != nil {
		r.Error, r.Field, r.Pointer, r.Rule = it.fault.Error(), it.fault.field, it.fault.pointer, it.fault.rule
	}
	return r
}

// answer says what became of a request, and returns the status: that of its
// events if they all have the same, and 207 otherwise.
func answer(w http.ResponseWriter, batch request) (status int) {
	all := Results{Results: make([]Result, len(batch.items))}
	status = batch.items[0].status()
	for i, it := range batch.items {
		all.Results[i] = it.result()
		switch it.status() {
		case http.StatusAccepted:
			all.Accepted++
		case http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", retryAfter)
		}
		if it.status() != status {
			status = http.StatusMultiStatus
		}
	}
	first := all.Results[0]
	switch {
	case status == http.StatusMultiStatus, status == http.StatusAccepted && !batch.single:
		webjson.Write(w, status, all)
	case status == http.StatusAccepted:
		webjson.Write(w, status, first)
	case batch.single:
		webjson.WriteProblem(w, status, Problem{Problem: *webjson.NewProblem(status, first.Error), ID: first.ID, Field: first.Field, Pointer: first.Pointer, Rule: first.Rule})
	default:
		webjson.WriteProblem(w, status, Problem{Problem: *webjson.NewProblem(status, "no event was accepted; of the first: "+first.Error), Results: all.Results})
	}
	return status
}
