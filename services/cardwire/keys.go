package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/services/cardwire/kept"
	"github.com/cardwire/cardwire/services/internal/sqlstate"
)

// keysCommand is about two kinds of keys. What is printed on stdout can be piped;
// what is for people goes to stderr.
type keysCommand struct {
	Create createKeyCommand `cmd:"" group:"api" help:"Make an API key and print it, this once."`
	List   listKeysCommand  `cmd:"" group:"api" help:"List the API keys: who has them and what became of them, not the keys themselves."`
	Revoke revokeKeyCommand `cmd:"" group:"api" help:"End an API key, for good."`

	New     newKeysetCommand     `cmd:"" group:"keyset" help:"Print a fresh keyset, for a new installation."`
	Add     addKeyCommand        `cmd:"" group:"keyset" help:"Rotation, step 1: print the keyset with one more key, which does not seal yet."`
	Promote promoteKeyCommand    `cmd:"" group:"keyset" help:"Rotation, step 2: print the keyset with its newest key as the one that seals."`
	Rotate  rotateSecretsCommand `cmd:"" group:"keyset" help:"Rotation, step 3: seal again, with that key, what is in the database under another. May be interrupted and run again."`
	Prune   pruneKeysCommand     `cmd:"" group:"keyset" help:"Rotation, step 4: print the keyset without the keys that nothing in the database needs any more."`
}

// keyGroups are how --help tells them apart.
func keyGroups() kong.Option {
	return kong.ExplicitGroups([]kong.Group{
		{Key: "api", Title: "API keys, which services and operators show as Authorization: Bearer cwk_…"},
		{Key: "keyset", Title: "Encryption keyset, which webhooks and deliverer have as ENCRYPTION_KEYSET, and these commands too"},
	})
}

// connectTimeout bounds how long a command waits for the database to answer.
const connectTimeout = 10 * time.Second

// A database is which one a command works on.
type database struct {
	DatabaseURL string `env:"DATABASE_URL" help:"PostgreSQL of the services. Empty takes that of a running cardwire dev."`
	Data        string `env:"DATA" default:".data" help:"Directory of cardwire dev."`
}

// url is where it is.
func (d database) url() (string, error) {
	if d.DatabaseURL != "" {
		return d.DatabaseURL, nil
	}
	url, err := kept.Find(d.Data, kept.DatabaseURL)
	if errors.Is(err, kept.ErrNone) {
		return "", errors.New("no database: set DATABASE_URL to that of the services, or name the directory of cardwire dev with --data")
	}
	return url, err
}

// open connects. The context ends by Ctrl-C; close ends both.
func (d database) open() (ctx context.Context, pool *pgxpool.Pool, closeAll func(), err error) {
	url, err := d.url()
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if pool, err = pgxpool.New(ctx, url); err != nil {
		stop()
		return nil, nil, nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	closeAll = func() { pool.Close(); stop() }
	answer, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := pool.Ping(answer); err != nil {
		closeAll()
		return nil, nil, nil, fmt.Errorf("the database of DATABASE_URL does not answer: %w", err)
	}
	return ctx, pool, closeAll, nil
}

// explain adds to an error of the database what to do about it.
func explain(err error) error {
	if sqlstate.OldSchema(err) {
		return fmt.Errorf("%w: the database's schema is older than this command: run cardwire migrate first", err)
	}
	return err
}

// A keyset is where a command finds the one that it changes. It is no flag:
// other users of the machine can see those.
type keyset struct {
	Data string `env:"DATA" default:".data" help:"Directory of cardwire dev, whose keyset is taken if ENCRYPTION_KEYSET is not set."`
}

func (k keyset) read() (string, error) { return readKeyset(k.Data) }

func readKeyset(data string) (string, error) {
	s, err := kept.Find(data, kept.EncryptionKeyset)
	if errors.Is(err, kept.ErrNone) {
		return "", errors.New("no keyset: set ENCRYPTION_KEYSET to the one that webhooks and deliverer have, or name the directory of cardwire dev with --data")
	}
	return s, err
}

// note tells people something, on stderr.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, strings.TrimSuffix(format, "\n")+"\n", args...)
}
