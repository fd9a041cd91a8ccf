package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/sql/db"
)

// SeedEndpoint registers alice's endpoint at receiver, for both event types, if
// it has never been there. If it is there and leads to the sample receiver under
// the address of an earlier run, it is moved to the address of receiver. Once
// deleted it stays deleted: live is then false.
func SeedEndpoint(ctx context.Context, pool *pgxpool.Pool, keyset *secrets.Keyset, receiver *url.URL) (live bool, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := q.LockCreation(ctx, Alice); err != nil {
			return err
		}
		was, err := q.SeededEndpoint(ctx, Endpoint)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			live = true
			return insertEndpoint(ctx, q, keyset, receiver)
		case err != nil:
			return err
		}
		live = !was.Deleted
		if to, ok := moved(was.Url, receiver); live && ok {
			_, err = q.MoveEndpoint(ctx, db.MoveEndpointParams{ID: Endpoint, FromUrl: was.Url, ToUrl: to})
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("seed demo endpoint: %w", err)
	}
	return live, nil
}

func insertEndpoint(ctx context.Context, q *db.Queries, keyset *secrets.Keyset, receiver *url.URL) error {
	sealed, err := keyset.Seal(Endpoint, []byte(signing.NewSecret()))
	if err != nil {
		return err
	}
	_, err = q.InsertEndpoint(ctx, db.InsertEndpointParams{
		ID: Endpoint, UserID: Alice, Url: receiver.String(), Events: []string{events.CardViewed, events.ContactSaved},
		Description: "The sample receiver of cardwire dev",
	})
	if err != nil {
		return err
	}
	return q.InsertEndpointSecret(ctx, db.InsertEndpointSecretParams{ID: Endpoint, EndpointID: Endpoint, Ciphertext: sealed})
}

// moved returns where an endpoint that led to the sample receiver of an earlier
// run leads now; ok is false for any other URL, and for one that is right. What
// somebody wrote behind the question mark stays.
func moved(was string, receiver *url.URL) (to string, ok bool) {
	u, err := url.Parse(was)
	if err != nil || u.Scheme != receiver.Scheme || u.Path != receiver.Path || u.Host == receiver.Host {
		return "", false
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err != nil || !addr.IsLoopback() {
		return "", false
	}
	u.Host = receiver.Host
	return u.String(), true
}
