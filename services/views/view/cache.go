package view

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// A pageKey is what a page shows.
type pageKey struct {
	username string
	cardID   uuid.UUID // nil: the profile
}

// A page is a profile or a card, ready to be sent. It is shared: nobody changes it.
type page struct {
	key     pageKey
	ownerID uuid.UUID
	body    []byte // JSON, the same for every viewer
}

// A cache keeps pages for a short time, those that do not exist (nil) included.
// It is bounded: the page least recently asked for goes first. A burst on one
// page that is not in it reads it once.
//
// It is not the library's expirable cache, which starts a goroutine that
// nothing can stop.
type cache struct {
	ttl     time.Duration
	read    func(context.Context, pageKey) (*page, error) // nil, nil: there is no such page
	entries *lru.Cache[pageKey, entry]
	flights singleflight.Group
}

type entry struct {
	page *page
	at   time.Time // when it had been read
}

func newCache(size int, ttl time.Duration, read func(context.Context, pageKey) (*page, error)) (*cache, error) {
	entries, err := lru.New[pageKey, entry](size)
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	return &cache{ttl: ttl, read: read, entries: entries}, nil
}

// get returns a page not older than the TTL, or nil if there is none. Errors
// are those of reading, and are not kept. Reading outlives the request that
// began it, as others may wait for it; read bounds it.
func (c *cache) get(ctx context.Context, key pageKey) (*page, error) {
	if e, ok := c.fresh(key); ok {
		return e.page, nil
	}
	p, err, _ := c.flights.Do(key.username+"/"+key.cardID.String(), func() (any, error) {
		// A flight that ended since the look above has left its page here.
		if e, ok := c.fresh(key); ok {
			return e.page, nil
		}
		p, err := c.read(context.WithoutCancel(ctx), key)
		if err == nil {
			c.entries.Add(key, entry{page: p, at: time.Now()})
		}
		return p, err
	})
	if err != nil {
		return nil, err
	}
	return p.(*page), nil
}

func (c *cache) fresh(key pageKey) (entry, bool) {
	e, ok := c.entries.Get(key)
	return e, ok && time.Since(e.at) < c.ttl
}
