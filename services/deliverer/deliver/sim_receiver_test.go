package deliver

import (
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// simPosts is what the receiver knows of a delivery.
type simPosts struct {
	n, inFlight int
	success     bool
	after       int  // POSTs after a success
	failedAfter int  // of those, the ones that got no success again: the next is no repeat of ours
	gone        bool // answered 410
	stubborn    bool // never succeeds
}

// RoundTrip is the receiver, as the node reaches it. It checks what must be so
// when a POST begins.
func (n *simNode) RoundTrip(r *http.Request) (*http.Response, error) {
	w := n.world
	id, err := uuid.Parse(r.Header.Get("webhook-id")) // of the event: in a simulation each has one delivery
	if err != nil {
		return nil, err
	}
	select {
	case <-w.store.turn:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	w.mu.Lock()
	if n.dead {
		w.mu.Unlock()
		w.store.turn <- struct{}{}
		return nil, errSimFault
	}
	p := w.begin(id)
	w.store.turn <- struct{}{}
	took, answer := w.upTo(w.attempt/2), http.StatusNoContent
	if p.gone {
		answer = http.StatusGone
	} else if p.stubborn || w.happens(w.faults.receiver) {
		switch x := w.random(); {
		case x < 0.5:
			answer = http.StatusInternalServerError
		case x < 0.6:
			answer = http.StatusTooManyRequests
		case x < 0.8:
			took = time.Hour // no answer
		default:
			answer = 0 // the connection breaks
		}
	}
	w.mu.Unlock()

	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-r.Context().Done():
		err = r.Context().Err()
	case <-timer.C:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p.inFlight--
	switch {
	case err == nil && answer >= 200 && answer <= 299:
		p.success = true // whether or not the node lives to see it
	case p.success:
		p.failedAfter++
	}
	switch {
	case err != nil:
		return nil, err
	case n.dead:
		return nil, errSimFault
	case answer == 0:
		return nil, io.ErrUnexpectedEOF
	}
	header := http.Header{}
	if answer == http.StatusTooManyRequests {
		header.Set("Retry-After", "2")
	}
	return &http.Response{StatusCode: answer, Header: header, Body: http.NoBody, Request: r}, nil
}

// begin notes a POST of an event's delivery and holds it against the invariants.
// A process that is cut off leaves a request behind that the receiver still has;
// another may follow once its attempt is closed as interrupted.
func (w *simWorld) begin(eventID uuid.UUID) *simPosts {
	p := w.posts[eventID]
	var d *simDelivery
	for _, row := range w.store.deliveries {
		if row.eventID == eventID {
			d = row
		}
	}
	rows := 0
	for _, a := range w.store.attempts {
		if a.deliveryID == d.id {
			rows++
		}
	}
	interrupted := w.store.interrupted[d.id]
	p.n++
	if p.n > rows {
		w.fail("I2: POST %d of %s, but %d attempts are in the log", p.n, d.id, rows)
	}
	if p.success {
		p.after++
	}
	if p.after > interrupted+p.failedAfter {
		w.fail("I3: %d POSTs of %s after a success, %d attempts were cut off, %d failed", p.after, d.id, interrupted, p.failedAfter)
	}
	if most := len(w.steps) + 1 + interrupted; p.n > most {
		w.fail("I4: POST %d of %s, %d are the most", p.n, d.id, most)
	}
	if d.next.After(time.Now().Add(early)) && interrupted == 0 {
		w.fail("I4: POST %d of %s, which is due at %s", p.n, d.id, d.next)
	}
	if p.inFlight > interrupted {
		w.fail("I4: %d attempts of %s at once, %d were cut off", p.inFlight+1, d.id, interrupted)
	}
	p.inFlight++
	return p
}
