package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/cardwire/cardwire/services/internal/signing"
)

// page has the views service be asked for a page.
var page = plot{lead: func(ctx context.Context, r *run, n int) error {
	r.publisher.view(ctx, n)
	return nil
}}

// published publishes an event.
func published(via string) plot {
	return plot{lead: func(ctx context.Context, r *run, _ int) error {
		r.publisher.publish(ctx, r.publisher.users[0], common, via)
		return nil
	}}
}

// errAnswered says that the service answered what it should have died of.
var errAnswered = errors.New("the service answered")

// expect holds what a query counts in PostgreSQL to a number.
func (r *run) expect(ctx context.Context, want int, query string, args ...any) error {
	var n int
	if err := r.stack.admin.QueryRow(ctx, query, args...).Scan(&n); err != nil {
		return err
	}
	if n != want {
		return fmt.Errorf("%d rows by %s, want %d", n, query, want)
	}
	return nil
}

const (
	countEndpoints = `SELECT count(*) FROM endpoints WHERE substring(url from '[^/]*$')::uuid = $1 AND deleted_at IS NULL`
	countSecrets   = `SELECT count(*) FROM endpoint_secrets WHERE endpoint_id = $1`
)

// newest is the target that was added last.
func (r *run) newest() *target { return r.targets[len(r.targets)-1] }

// addTarget makes a target of which the API does not know yet.
func (r *run) addTarget() error {
	t, err := newTarget(r.targets[0].user, well, common)
	if err != nil {
		return err
	}
	r.receiver.add(t)
	r.targets = append(r.targets, t)
	return nil
}

// createOne registers the newest target under its name as key.
func (r *run) createOne(ctx context.Context) error {
	t := r.newest()
	accepted, err := r.api.create(ctx, t, r.receiver.url, t.name.String())
	if err == nil && !accepted {
		err = errors.New("an endpoint could not be created")
	}
	return err
}

// creation is killed as an endpoint is registered: the rows are there if it was
// committed, and the repeat of the request finds or makes the one endpoint. It
// gets the next event, and is deleted.
func creation(rows int) plot {
	return plot{
		prepare: func(_ context.Context, r *run, _ int) error { return r.addTarget() },
		lead: func(ctx context.Context, r *run, _ int) error {
			t := r.newest()
			status, _ := r.api.once(ctx, t.user, http.MethodPost, "/api/webhooks", t.name.String(), registration(t, r.receiver.url), nil)
			if status != 0 {
				return errAnswered
			}
			return nil
		},
		after: func(ctx context.Context, r *run, _ int) error {
			t := r.newest()
			if err := r.expect(ctx, rows, countEndpoints, t.name); err != nil {
				return err
			}
			if err := r.createOne(ctx); err != nil {
				return err
			}
			if err := r.expect(ctx, 1, countEndpoints, t.name); err != nil {
				return err
			}
			r.publisher.publish(ctx, t.user, common, viaStream)
			if err := r.awaitQuiet(ctx); err != nil {
				return err
			}
			return r.api.remove(ctx, t)
		},
	}
}

// rotation is killed as a secret is rotated: there is one more if that was
// committed. A repeat, which ends the others, gives the one that the next event is
// signed with.
func rotation(rows int) plot {
	rotate := func(ctx context.Context, r *run, overlap string) (secret string, status int, err error) {
		var made struct{ Secret string }
		t := r.targets[0]
		status, err = r.api.once(ctx, t.user, http.MethodPatch, rotatePath(t.id, overlap), "", nil, &made)
		return made.Secret, status, err
	}
	return plot{
		lead: func(ctx context.Context, r *run, _ int) error {
			if _, status, _ := rotate(ctx, r, "1h"); status != 0 {
				return errAnswered
			}
			return nil
		},
		after: func(ctx context.Context, r *run, _ int) error {
			t := r.targets[0]
			if err := r.expect(ctx, rows, countSecrets, t.id); err != nil {
				return err
			}
			secret, _, err := rotate(ctx, r, "0s")
			if err != nil {
				return err
			}
			w, err := standardwebhooks.NewWebhook(signing.Whsec(secret))
			if err != nil {
				return err
			}
			t.mu.Lock()
			t.webhook = w // the ones before verify nothing any more
			t.mu.Unlock()
			r.publisher.publish(ctx, t.user, common, viaStream)
			return r.awaitQuiet(ctx)
		},
	}
}

// deletion is killed as an endpoint is deleted: it is there unless that was
// committed. After a repeat it gets no event; the other endpoint gets each.
func deletion(rows int) plot {
	return plot{
		prepare: func(ctx context.Context, r *run, _ int) error {
			if err := r.addTarget(); err != nil {
				return err
			}
			return r.createOne(ctx)
		},
		lead: func(ctx context.Context, r *run, _ int) error {
			t := r.newest()
			if status, _ := r.api.once(ctx, t.user, http.MethodDelete, endpointPath(t.id), "", nil, nil); status != 0 {
				return errAnswered
			}
			return nil
		},
		after: func(ctx context.Context, r *run, _ int) error {
			t := r.newest()
			if err := r.expect(ctx, rows, countEndpoints, t.name); err != nil {
				return err
			}
			if err := r.api.remove(ctx, t); err != nil {
				return err
			}
			if err := r.expect(ctx, 0, countEndpoints, t.name); err != nil {
				return err
			}
			r.publisher.publish(ctx, t.user, common, viaStream)
			return nil
		},
	}
}

// replayEvents is how many events a replay has, one in each batch.
const replayEvents = 5

// midway kills at some batch of a replay. The checker counts what it made.
var midway = plot{
	prepare: func(ctx context.Context, r *run, n int) error {
		t := r.targets[0]
		if n == 0 {
			for range replayEvents {
				r.publisher.publish(ctx, t.user, common, viaStream)
			}
			if err := r.awaitQuiet(ctx); err != nil {
				return err
			}
		}
		if err := r.api.replay(ctx, t, r.begun, replayEvents); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.Int64N(int64(600 * time.Millisecond)))) // of the second that it takes
		return nil
	},
}

// renewed kills as the deliveries that an endpoint missed are made pending again.
var renewed = plot{
	prepare: func(ctx context.Context, r *run, _ int) error {
		t := r.targets[1]
		t.healed.Store(false)
		r.publisher.publish(ctx, t.user, rare, viaStream)
		if err := r.awaitQuiet(ctx); err != nil {
			return err
		}
		t.healed.Store(true)
		return r.expect(ctx, 1, `SELECT count(*) FROM deliveries WHERE endpoint_id = $1 AND status = 'failed'`, t.id)
	},
	lead: func(ctx context.Context, r *run, _ int) error {
		t := r.targets[1]
		_, err := r.api.ask(ctx, t.user, http.MethodPost, endpointPath(t.id)+"/recover", uuid.NewString(), map[string]any{"since": r.begun}, nil)
		return err
	},
	after: func(ctx context.Context, r *run, _ int) error {
		if err := r.awaitQuiet(ctx); err != nil {
			return err
		}
		return r.expect(ctx, 0, `SELECT count(*) FROM deliveries WHERE endpoint_id = $1 AND status <> 'success'`, r.targets[1].id)
	},
}
