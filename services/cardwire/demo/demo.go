// Package demo is what cardwire dev puts into an empty database so that there is
// something to try: two users with cards, and an endpoint of one of them.
//
// It writes what has never been there and changes nothing else, so whatever
// somebody does to the demo stays: an edited profile, a deleted link, a deleted
// endpoint. Deleting a user brings that user back at the next start.
package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/sql/db"
)

// The demo's ids are fixed, so that documentation and scripts can name them.
var (
	Alice     = uuid.MustParse("00000000-0000-7000-8000-000000000001")
	Bob       = uuid.MustParse("00000000-0000-7000-8000-000000000002")
	AliceCard = uuid.MustParse("00000000-0000-7000-8000-0000000000c1")
	BobCard   = uuid.MustParse("00000000-0000-7000-8000-0000000000c2")
	Endpoint  = uuid.MustParse("00000000-0000-7000-8000-0000000000e1") // of alice
)

// A user is a demo user with one card, which shows all links.
type user struct {
	db.SeedUserParams
	card  db.SeedCardParams
	links []db.SeedLinkParams // ids, user and order are filled in
}

// users returns the demo users.
func users() []user {
	return []user{
		{
			SeedUserParams: db.SeedUserParams{
				ID: Alice, Username: "alice", DisplayName: "Alice Example", AccentColor: "#0ea5e9",
				Bio: new("Builds small things that talk to each other."), Pronouns: new("she/her"),
				Role: new("Backend engineer"), Company: new("Example Ltd"),
			},
			card: db.SeedCardParams{ID: AliceCard, UserID: Alice, Title: "Conference"},
			links: []db.SeedLinkParams{
				{Platform: "github", Username: "alice", Url: "https://github.com/alice"},
				{Platform: "mastodon", Username: "@alice@example.social", Url: "https://example.social/@alice"},
				{Platform: "website", Username: "alice.example", Url: "https://alice.example"},
			},
		},
		{
			SeedUserParams: db.SeedUserParams{
				ID: Bob, Username: "bob", DisplayName: "Bob Example", AccentColor: "#f97316",
				Bio: new("Reads the log first."), Pronouns: new("he/him"), Role: new("Operator"),
			},
			card: db.SeedCardParams{ID: BobCard, UserID: Bob, Title: "Work"},
			links: []db.SeedLinkParams{
				{Platform: "github", Username: "bob", Url: "https://github.com/bob"},
				{Platform: "linkedin", Username: "bob-example", Url: "https://www.linkedin.com/in/bob-example"},
			},
		},
	}
}

// UserID returns the id of the demo user of that name; ok is false if there is none.
func UserID(username string) (id uuid.UUID, ok bool) {
	for _, u := range users() {
		if u.Username == username {
			return u.ID, true
		}
	}
	return uuid.Nil, false
}

// SeedUsers writes the demo users that the database does not have, each with
// card and links or not at all. It fails if somebody else has the name of one.
func SeedUsers(ctx context.Context, pool *pgxpool.Pool) error {
	for _, u := range users() {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return u.seed(ctx, db.New(tx)) })
		if err != nil {
			return fmt.Errorf("seed demo user %s: %w", u.Username, err)
		}
	}
	return nil
}

func (u user) seed(ctx context.Context, q *db.Queries) error {
	added, err := q.SeedUser(ctx, u.SeedUserParams)
	if err != nil {
		return err
	}
	if added == 0 {
		return u.known(ctx, q)
	}
	if err := q.SeedCard(ctx, u.card); err != nil {
		return err
	}
	for i, link := range u.links {
		link.ID, link.UserID, link.DisplayOrder = uuid.NewSHA1(u.ID, []byte(link.Platform)), u.ID, int32(i)
		if err := q.SeedLink(ctx, link); err != nil {
			return err
		}
		if err := q.SeedCardLink(ctx, db.SeedCardLinkParams{CardID: u.card.ID, LinkID: link.ID, DisplayOrder: int32(i)}); err != nil {
			return err
		}
	}
	return nil
}

// known says whether the demo user is there under another name, which is fine,
// or somebody else under the demo user's, which is not.
func (u user) known(ctx context.Context, q *db.Queries) error {
	id, err := q.UserID(ctx, u.Username)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil // renamed
	case err != nil:
		return err
	case id != u.ID:
		return fmt.Errorf("user %v has this name in the database: DATABASE_URL must lead to a database for development", id)
	}
	return nil
}
