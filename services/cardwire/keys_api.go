package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cardwire/cardwire/services/internal/apikeys"
)

type createKeyCommand struct {
	Name    string   `required:"" placeholder:"NAME" help:"Whose key it is or what for: up to 64 characters. Several keys may have the same name, so that one can follow another."`
	Scope   []string `required:"" placeholder:"SCOPE" help:"What it may be used for: events:publish, operator, or both, separated by a comma."`
	Expires life     `default:"never" placeholder:"LIFE" help:"How long it is valid, as in 90d or 12h; by default for ever."`
	database
}

// A life is how long a key is valid; 0 is for ever.
type life time.Duration

// UnmarshalText reads days as in 90d, durations as Go writes them, or never.
func (l *life) UnmarshalText(text []byte) error {
	s := string(text)
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		if err == nil && (n < 1 || n > 10*366) {
			err = errors.New("out of range")
		}
		d = time.Duration(n) * 24 * time.Hour
	} else if s != "never" {
		d, err = time.ParseDuration(s)
	}
	if err != nil || d <= 0 && s != "never" {
		return fmt.Errorf("must be days as in 90d, a duration as in 12h, or never, not %q", s)
	}
	*l = life(d)
	return nil
}

// Run prints the key, and nothing else, on stdout.
func (c createKeyCommand) Run() error {
	scopes := make([]apikeys.Scope, len(c.Scope))
	for i, name := range c.Scope {
		var err error
		if scopes[i], err = apikeys.ParseScope(name); err != nil {
			return err
		}
	}
	ctx, pool, closeAll, err := c.open()
	if err != nil {
		return err
	}
	defer closeAll()
	text, key, err := (apikeys.Store{DB: pool}).Create(ctx, c.Name, scopes, time.Duration(c.Expires))
	if err != nil {
		return explain(err)
	}
	fmt.Println(text)
	note("API key %q, id %s, for %s, expires: %s.", key.Name, key.ID, scopesOf(key), moment(key.ExpiresAt))
	note("The line above is the key. It is not kept anywhere: this is the only time that it is shown.")
	return nil
}

type listKeysCommand struct{ database }

// Run prints a table on stdout.
func (c listKeysCommand) Run() error {
	ctx, pool, closeAll, err := c.open()
	if err != nil {
		return err
	}
	defer closeAll()
	keys, err := (apikeys.Store{DB: pool}).List(ctx)
	if err != nil {
		return explain(err)
	}
	if len(keys) == 0 {
		note("There are no API keys. Make one with: cardwire keys create --name NAME --scope events:publish")
		return nil
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tSCOPES\tSTATE\tCREATED\tLAST USED\tEXPIRES\tREVOKED")
	now := time.Now()
	for _, k := range keys {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, scopesOf(k), k.State(now),
			moment(&k.Created), moment(k.LastUsed), moment(k.ExpiresAt), moment(k.RevokedAt))
	}
	return table.Flush()
}

type revokeKeyCommand struct {
	Key string `arg:"" name:"id-or-name" help:"Id of the key, or its name if no other key that still works has that name."`
	database
}

// Run says what was revoked.
func (c revokeKeyCommand) Run() error {
	ctx, pool, closeAll, err := c.open()
	if err != nil {
		return err
	}
	defer closeAll()
	key, err := (apikeys.Store{DB: pool}).Revoke(ctx, c.Key)
	if errors.Is(err, apikeys.ErrUnknown) {
		return fmt.Errorf("%w; cardwire keys list shows all", err)
	}
	if err != nil {
		return explain(err)
	}
	note("Revoked API key %q, id %s. Services refuse it within %s.", key.Name, key.ID, apikeys.RevokedWithin)
	return nil
}

func scopesOf(k apikeys.Key) string {
	names := make([]string, len(k.Scopes))
	for i, s := range k.Scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ",")
}

// moment is a time in UTC, to the second.
func moment(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}
