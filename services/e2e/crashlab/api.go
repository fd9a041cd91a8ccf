package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/signing"
)

const (
	// askFor is how long the lab goes on with a request that was not answered, as a client would.
	askFor = 20 * time.Second
	// answerTime bounds one request.
	answerTime = 8 * time.Second
)

// An api is the lab as a user of the endpoints API, who repeats what is not answered.
type api struct {
	journal *check.Journal
	stack   *stack
	client  *http.Client
}

// once makes a request of a user, and reads the answer into out if that is a
// success. status is 0 if there was no answer.
func (a *api) once(ctx context.Context, user uuid.UUID, method, path, key string, body, out any) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	text := []byte(nil)
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, a.stack.url(webhooksName)+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	token, err := auth.Mint(a.stack.jwtSecret, user, time.Hour, time.Now())
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(resp.Body); err != nil {
		return 0, err
	}
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer.Bytes())
	}
	if out == nil {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.Unmarshal(answer.Bytes(), out)
}

// ask makes a request until it is answered, for a while: what has no answer, or
// one that says to come again, may have been done. The error is the last one.
func (a *api) ask(ctx context.Context, user uuid.UUID, method, path, key string, body, out any) (status int, err error) {
	for end := time.Now().Add(askFor); ; time.Sleep(200 * time.Millisecond) {
		status, err = a.once(ctx, user, method, path, key, body, out)
		if err == nil || status != 0 && status/100 != 5 || time.Now().After(end) || ctx.Err() != nil {
			return status, err
		}
	}
}

// note writes down what became of a change. The error is of an answer that
// should not have been.
func (a *api) note(ch check.Change, status int, err error) error {
	ch.Answered, ch.State = time.Now(), check.Accepted
	if err != nil {
		ch.State = check.Unknown
	}
	a.journal.Write(ch)
	if status != 0 && status/100 != 5 && err != nil {
		return err
	}
	return nil
}

func endpointPath(id uuid.UUID) string { return "/api/webhooks/" + id.String() }

func rotatePath(id uuid.UUID, overlap string) string {
	return endpointPath(id) + "/rotate-secret?overlap=" + overlap
}

// registration is the body that registers a target at the receiver's URL.
func registration(t *target, url string) map[string]any {
	return map[string]any{"url": url + t.name.String(), "events": t.types, "secret": signing.Whsec(t.secret)}
}

// create registers a target, of which the receiver knows, under a key. accepted
// says that the API answered; then the target has its id.
func (a *api) create(ctx context.Context, t *target, url, key string) (accepted bool, err error) {
	ch := check.Change{Kind: check.Created, Endpoint: t.name, Asked: time.Now()}
	var made struct{ ID uuid.UUID }
	status, err := a.ask(ctx, t.user, http.MethodPost, "/api/webhooks", key,
		registration(t, url), &made)
	t.id = made.ID
	return err == nil, a.note(ch, status, err)
}

// rotate rotates a target's secret. What is not answered is asked again, and may
// be done twice.
func (a *api) rotate(ctx context.Context, t *target, overlap string) error {
	ch := check.Change{Kind: check.Rotated, Endpoint: t.name, Asked: time.Now()}
	var made struct{ Secret string }
	status, err := a.ask(ctx, t.user, http.MethodPatch, rotatePath(t.id, overlap), "", nil, &made)
	if err == nil {
		if ch.Secret, err = t.rotated(made.Secret); err != nil {
			return err
		}
	}
	if status == http.StatusConflict { // three old ones are valid still
		return nil
	}
	return a.note(ch, status, err)
}

// remove deletes a target. A repeat is answered with 404 if the request before was done.
func (a *api) remove(ctx context.Context, t *target) error {
	ch := check.Change{Kind: check.Deleted, Endpoint: t.name, Asked: time.Now()}
	status, err := a.ask(ctx, t.user, http.MethodDelete, endpointPath(t.id), "", nil, nil)
	if status == http.StatusNotFound {
		err = nil
	}
	return a.note(ch, status, err)
}

// replay begins a replay of all events of a time and later to a target. rate is
// in deliveries per second.
func (a *api) replay(ctx context.Context, t *target, since time.Time, rate int) error {
	ch := check.Change{Kind: check.Replayed, Endpoint: t.name, Asked: time.Now()}
	var begun struct{ Replay struct{ ID uuid.UUID } }
	status, err := a.ask(ctx, t.user, http.MethodPost, "/api/replays", uuid.NewString(),
		map[string]any{"endpointId": t.id, "mode": "all", "since": since, "rate": rate}, &begun)
	if status == http.StatusConflict { // it is disabled, or another one goes on
		return nil
	}
	ch.Replay = begun.Replay.ID
	return a.note(ch, status, err)
}
