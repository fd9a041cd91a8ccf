package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/outbox"
	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
)

// Ways of an event in.
const (
	viaStream = "stream"
	viaOutbox = "outbox"
	viaPage   = "page"
)

// Types of events. Views publishes the third.
const (
	common = "lab.common"
	rare   = "lab.rare" // few of them: for endpoints that fail always
	viewed = events.CardViewed
)

// publishers is how many publish at once.
const publishers = 8

// again is how long a publisher goes on with an event that was not accepted.
const again = 4 * time.Second

// A publisher makes events come in, in all three ways, and writes down what it
// was told about each.
type publisher struct {
	journal *check.Journal
	pub     *events.Publisher
	pool    *pgxpool.Pool
	views   func() string // URL of the service, as it is now
	client  *http.Client
	users   []uuid.UUID
	paused  sync.RWMutex // held for writing while nothing may be published
	pages   atomic.Int64 // asked for
}

// run publishes count events, perSecond.
func (p *publisher) run(ctx context.Context, rnd *rand.Rand, count, perSecond int) {
	type job struct {
		i    int
		dice float64
		user uuid.UUID
	}
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range publishers {
		workers.Go(func() {
			for j := range jobs {
				p.paused.RLock()
				p.one(ctx, j.i, j.user, j.dice)
				p.paused.RUnlock()
			}
		})
	}
	begun := time.Now()
	for i := range count {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		n := rnd.IntN(len(p.users))
		jobs <- job{i: i, dice: rnd.Float64(), user: p.users[n]}
	}
	close(jobs)
	workers.Wait()
}

func (p *publisher) one(ctx context.Context, i int, user uuid.UUID, dice float64) {
	switch {
	case i%250 == 100:
		p.publish(ctx, user, rare, viaStream)
	case dice < 0.6:
		p.publish(ctx, user, common, viaStream)
	case dice < 0.8:
		p.publish(ctx, user, common, viaOutbox)
	default:
		p.view(ctx, i)
	}
}

// publish hands an event over until it is accepted, for a while.
func (p *publisher) publish(ctx context.Context, user uuid.UUID, eventType, via string) {
	e, err := events.New(user, eventType, map[string]string{"way": via})
	line := check.Published{EventID: e.ID, UserID: user, Type: eventType, Via: via, BodyHash: check.Hash(e.Body)}
	note := func(state string) {
		line.State, line.At = state, time.Now()
		p.journal.Write(line)
	}
	if err != nil {
		note(check.Refused)
		return
	}
	note(check.Intended)
	end := time.Now().Add(again)
	for {
		if err = p.once(ctx, e, via); err == nil {
			note(check.Accepted)
			return
		}
		if errors.Is(err, events.ErrInvalid) {
			note(check.Refused)
			return
		}
		if time.Now().After(end) {
			note(check.Unknown)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (p *publisher) once(ctx context.Context, e events.Event, via string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if via == viaStream {
		return p.pub.Publish(ctx, e)
	}
	return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error { return outbox.Write(ctx, tx, e) })
}

// view asks for a page. What became of its event the views service's log says.
func (p *publisher) view(ctx context.Context, i int) {
	p.pages.Add(1)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	url := fmt.Sprintf("%s/api/u/user%d?source=n%d", p.views(), i%len(p.users), i)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}
