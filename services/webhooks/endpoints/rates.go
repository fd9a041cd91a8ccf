package endpoints

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/clientrate"
)

// maxLimited is how many users each limit remembers: 2 MB.
const maxLimited = 10_000

// rates hold each user to a rate of what costs more than a row. Each replica
// has its own. Nil is no limit.
type rates struct {
	create, test, resend, recovery *clientrate.Keyed[uuid.UUID]
}

func (a *API) rates() (l rates, err error) {
	for _, one := range []struct {
		limiter **clientrate.Keyed[uuid.UUID]
		rate    int
	}{{&l.create, a.cfg.CreateRate}, {&l.test, a.cfg.TestRate}, {&l.resend, a.cfg.ResendRate}, {&l.recovery, a.cfg.RecoverRate}} {
		if one.rate == 0 {
			continue
		}
		if *one.limiter, err = clientrate.NewKeyed[uuid.UUID](float64(one.rate)/60, one.rate, maxLimited); err != nil {
			return l, err
		}
	}
	return l, nil
}

// limited tells once the limit of a route.
func limited(ctx context.Context, limit *clientrate.Keyed[uuid.UUID]) context.Context {
	if limit == nil {
		return ctx
	}
	request, _ := ctx.Value(keyedRequestKey{}).(keyedRequest)
	request.limit = limit
	return context.WithValue(ctx, keyedRequestKey{}, request)
}

// spend takes one request of a user's rate, or returns a *rateError.
func (a *API) spend(limit *clientrate.Keyed[uuid.UUID], user uuid.UUID) error {
	if limit == nil {
		return nil
	}
	if wait, ok := limit.Allow(user, a.now()); !ok {
		return &rateError{wait}
	}
	return nil
}

// A rateError is a request beyond its user's rate.
type rateError struct{ wait time.Duration }

func (e *rateError) Error() string {
	return fmt.Sprintf("too many requests of this kind: try again in %s s", clientrate.RetryAfter(e.wait))
}
