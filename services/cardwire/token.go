package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/cardwire/demo"
	"github.com/cardwire/cardwire/services/cardwire/kept"
	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/sql/db"
)

// lookupTimeout bounds looking a username up in the database.
const lookupTimeout = 5 * time.Second

type tokenCommand struct {
	User string        `required:"" placeholder:"NAME" help:"Who the token is for: alice, bob, the id of a user, or the name of one in the database of DATABASE_URL or of cardwire dev."`
	TTL  time.Duration `name:"ttl" default:"24h" help:"How long the token is valid."`
	Data string        `env:"DATA" default:".data" help:"Directory of cardwire dev, whose JWT_SECRET signs the token unless the environment has one."`
}

// Run prints the token, and nothing else, on stdout.
func (c tokenCommand) Run() error {
	if c.TTL <= 0 {
		return fmt.Errorf("--ttl: must be positive, not %s", c.TTL)
	}
	secret, err := kept.Find(c.Data, kept.JWTSecret)
	if errors.Is(err, kept.ErrNone) {
		return fmt.Errorf("%w: set JWT_SECRET, or name the directory of cardwire dev with --data", err)
	}
	if err != nil {
		return err
	}
	id, err := c.userID(context.Background())
	if err != nil {
		return err
	}
	token, err := auth.Mint(secret, id, c.TTL, time.Now())
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}

// userID finds the user. The demo's users need no database.
func (c tokenCommand) userID(ctx context.Context) (uuid.UUID, error) {
	if id, err := uuid.Parse(c.User); err == nil {
		return id, nil
	}
	if id, ok := demo.UserID(c.User); ok {
		return id, nil
	}
	url, err := kept.Find(c.Data, kept.DatabaseURL)
	if errors.Is(err, kept.ErrNone) {
		return uuid.Nil, fmt.Errorf("user %q is none of the demo, and there is no database to look it up: set DATABASE_URL", c.User)
	}
	if err != nil {
		return uuid.Nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return uuid.Nil, fmt.Errorf("look up user %q: %w", c.User, err)
	}
	defer conn.Close(ctx)
	id, err := db.New(conn).UserID(ctx, c.User)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, fmt.Errorf("there is no user %q", c.User)
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("look up user %q: %w", c.User, err)
	}
	return id, nil
}
