package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/secrets/reseal"
)

const everywhere = "Next: set ENCRYPTION_KEYSET to the line above for every webhooks and deliverer, restart them, and "

type newKeysetCommand struct{}

// Run prints the keyset, and nothing else, on stdout.
func (newKeysetCommand) Run() error {
	serialized, err := secrets.NewKeyset()
	if err != nil {
		return err
	}
	fmt.Println(serialized)
	return nil
}

type addKeyCommand struct{ keyset }

// Run prints the next keyset, and nothing else, on stdout.
func (c addKeyCommand) Run() error {
	serialized, err := c.read()
	if err != nil {
		return err
	}
	next, id, err := secrets.AddKey(serialized)
	if err != nil {
		return explainKeyset(err)
	}
	fmt.Println(next)
	note("Added key %d. It opens, but does not seal yet.", id)
	note(everywhere + "only then run: cardwire keys promote")
	return nil
}

type promoteKeyCommand struct{ keyset }

// Run prints the next keyset, and nothing else, on stdout.
func (c promoteKeyCommand) Run() error {
	serialized, err := c.read()
	if err != nil {
		return err
	}
	next, id, err := secrets.PromoteKey(serialized)
	if err != nil {
		return explainKeyset(err)
	}
	fmt.Println(next)
	note("Key %d seals, the others still open.", id)
	note(everywhere + "only then run: cardwire keys rotate")
	return nil
}

type rotateSecretsCommand struct{ database }

// Run tells on stderr how far it is, and on stdout what it has done.
func (c rotateSecretsCommand) Run() error {
	serialized, keys, err := parseKeyset(c.Data)
	if err != nil {
		return err
	}
	if _, id, err := secrets.PromoteKey(serialized); err == nil {
		note("Note: key %d of the keyset does not seal yet, so this seals with key %d. Was cardwire keys promote left out?", id, keys.Primary())
	}
	ctx, pool, closeAll, err := c.open()
	if err != nil {
		return err
	}
	defer closeAll()
	usage, err := reseal.Count(ctx, pool)
	if err != nil {
		return explain(err)
	}
	for _, use := range usage {
		note("  %s", describe(use, keys))
	}
	res, err := reseal.Resealer{DB: pool, Keyset: keys, Progress: func(table string, rows int) {
		note("%s: %d rows re-sealed", table, rows)
	}}.Run(ctx)
	done := fmt.Sprintf("Re-sealed %d rows of endpoint_secrets and %d of idempotency_keys with key %d.", res.Secrets, res.Answers, keys.Primary())
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted. %s Run it again to go on", done)
	case err != nil:
		note("%s", done)
		return explain(err)
	}
	fmt.Println(done, "Nothing is left under another key.")
	note("Next: cardwire keys prune")
	return nil
}

type pruneKeysCommand struct{ database }

// Run prints the next keyset, and nothing else, on stdout. It refuses while
// anything needs a key that would go.
func (c pruneKeysCommand) Run() error {
	serialized, keys, err := parseKeyset(c.Data)
	if err != nil {
		return err
	}
	next, removed, err := secrets.PruneKeys(serialized)
	if err != nil {
		return explainKeyset(err)
	}
	ctx, pool, closeAll, err := c.open()
	if err != nil {
		return err
	}
	defer closeAll()
	usage, err := reseal.Count(ctx, pool)
	if err != nil {
		return explain(err)
	}
	if left := usage.Without(keys.Primary()); len(left) > 0 {
		lines := make([]string, len(left))
		for i, use := range left {
			lines[i] = describe(use, keys)
		}
		return fmt.Errorf("not pruned: still under another key than %d, which seals: %s. "+
			"Run cardwire keys rotate first, when every webhooks and deliverer has the keyset in which that key seals", keys.Primary(), strings.Join(lines, "; "))
	}
	fmt.Println(next)
	if len(removed) == 0 {
		note("There was nothing to remove: the keyset has only key %d.", keys.Primary())
		return nil
	}
	note("Removed what nothing in the database needs: %s. Only key %d is left.", keyIDs(removed), keys.Primary())
	note("Next: set ENCRYPTION_KEYSET to the line above for every webhooks and deliverer, and restart them.")
	note("Keep the keyset from before as long as backups from before the rotation: it alone opens them.")
	return nil
}

func parseKeyset(data string) (serialized string, keys *secrets.Keyset, err error) {
	if serialized, err = readKeyset(data); err != nil {
		return "", nil, err
	}
	if keys, err = secrets.ParseKeyset(serialized); err != nil {
		return "", nil, explainKeyset(err)
	}
	return serialized, keys, nil
}

// explainKeyset adds to an error about a keyset what to do about it.
func explainKeyset(err error) error {
	switch {
	case errors.Is(err, secrets.ErrUnpromoted):
		return fmt.Errorf("%w: first set ENCRYPTION_KEYSET to what cardwire keys promote prints", err)
	case errors.Is(err, secrets.ErrPromoted):
		return fmt.Errorf("%w: first set ENCRYPTION_KEYSET to what cardwire keys add prints", err)
	default:
		return fmt.Errorf("ENCRYPTION_KEYSET: %w", err)
	}
}

// describe says what a key has sealed, and whether the keyset has that key.
func describe(use reseal.Use, keys *secrets.Keyset) string {
	switch {
	case use.Ours && use.KeyID == keys.Primary():
		return use.String() + ", which seals"
	case use.Ours && !keys.Holds(use.KeyID):
		return use.String() + ", which this keyset does not have"
	default:
		return use.String()
	}
}

func keyIDs(ids []uint32) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = fmt.Sprintf("key %d", id)
	}
	return strings.Join(names, ", ")
}
