package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/signing"
)

// An endpoint is a registered one.
type endpoint struct {
	id, user uuid.UUID
	url      string
	secret   string
}

// owners are the users of endpoints, each once and in order.
func owners(eps []endpoint) []uuid.UUID {
	var users []uuid.UUID
	seen := make(map[uuid.UUID]bool)
	for _, e := range eps {
		if !seen[e.user] {
			users, seen[e.user] = append(users, e.user), true
		}
	}
	return users
}

// register registers n endpoints, so many of each user.
func (s *stack) register(ctx context.Context, n, perUser int, url func(i int) string) ([]endpoint, error) {
	eps := make([]endpoint, n)
	for i := range eps {
		eps[i] = endpoint{id: uuid.Must(uuid.NewV7()), user: uuid.Must(uuid.NewV7()), url: url(i), secret: signing.NewSecret()}
		if i%perUser != 0 {
			eps[i].user = eps[i-1].user
		}
	}
	return eps, s.insert(ctx, eps)
}

// insert writes endpoints with their secrets, sealed as the API would.
func (s *stack) insert(ctx context.Context, eps []endpoint) error {
	var ids, users, secretIDs []uuid.UUID
	var urls []string
	var sealed [][]byte
	for _, e := range eps {
		text, err := s.keyset.Seal(e.id, []byte(e.secret))
		if err != nil {
			return err
		}
		ids, users, secretIDs = append(ids, e.id), append(users, e.user), append(secretIDs, uuid.Must(uuid.NewV7()))
		urls, sealed = append(urls, e.url), append(sealed, text)
	}
	_, err := s.pool.Exec(ctx, `INSERT INTO endpoints (id, user_id, url, events)
		SELECT unnest($1::uuid[]), unnest($2::uuid[]), unnest($3::text[]), $4`, ids, users, urls, []string{eventType, events.CardViewed})
	if err == nil {
		_, err = s.pool.Exec(ctx, `INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext)
			SELECT unnest($1::uuid[]), unnest($2::uuid[]), unnest($3::bytea[])`, secretIDs, ids, sealed)
	}
	if err != nil {
		return fmt.Errorf("register endpoints: %w", err)
	}
	return nil
}

// group is what the receiver counts the endpoint's requests in.
func (e endpoint) group() string {
	u, err := url.Parse(e.url)
	if err != nil {
		return ""
	}
	parts := strings.Split(u.Path, "/")
	return parts[min(2, len(parts)-1)]
}
