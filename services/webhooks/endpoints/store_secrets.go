package endpoints

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/sql/db"
)

// keepOldSecrets is how many rotated secrets may be valid beside the current
// one. Each is a signature in every request's headers. To rotate again before
// one of them has ended would break the promise of its overlap, so it is
// refused, unless the caller ends them all.
const keepOldSecrets = 3

// Rotate gives an endpoint of a user a new secret, which it returns in the
// clear, or returns ErrNotFound; an endpoint with a key pair gets a new one of
// that too. What was valid before ends after overlap, or at once if that is 0. It
// returns ErrManySecrets if that would leave more old secrets valid than may be.
func (s Store) Rotate(ctx context.Context, userID, id uuid.UUID, overlap time.Duration) (secret string, public ed25519.PublicKey, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		if _, err := q.TouchEndpoint(ctx, db.TouchEndpointParams{ID: id, UserID: userID}); err != nil {
			return orNotFound(err)
		}
		keys, err := q.PublicKeys(ctx, []uuid.UUID{id})
		if err != nil {
			return fmt.Errorf("read public key: %w", err)
		}
		if err := q.ExpireEndpointSecrets(ctx, db.ExpireEndpointSecretsParams{EndpointID: id, Overlap: overlap.Seconds()}); err != nil {
			return fmt.Errorf("expire old secrets: %w", err)
		}
		active, err := q.ActiveEndpointSecrets(ctx, id)
		if err != nil {
			return fmt.Errorf("read secrets: %w", err)
		}
		if overlap > 0 && len(active) > keepOldSecrets {
			return ErrManySecrets
		}
		if secret, public, err = s.addSecret(ctx, q, id, "", len(keys) > 0); err != nil {
			return err
		}
		if err := q.PruneEndpointSecrets(ctx, db.PruneEndpointSecretsParams{EndpointID: id, Keep: keepOldSecrets}); err != nil {
			return fmt.Errorf("prune secrets: %w", err)
		}
		failpoint.Hit("rotate written")
		return audit(ctx, q, userID, id, "secret.rotated", map[string]any{"overlap": shownDuration(overlap)})
	})
	if err != nil {
		return "", nil, fmt.Errorf("rotate secret of endpoint %v: %w", id, err)
	}
	return secret, public, nil
}

// Secrets returns the secrets in the clear that deliveries to an endpoint are
// signed with now, the current one first. It does not ask whose endpoint it is:
// no answer of the API contains them.
func (s Store) Secrets(ctx context.Context, id uuid.UUID) ([]string, error) {
	rows, err := db.New(s.DB).ActiveEndpointSecrets(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read secrets of endpoint %v: %w", id, err)
	}
	list := make([]string, len(rows))
	for i, row := range rows {
		plain, err := s.Keyset.Open(id, row.Ciphertext)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errSecret, err)
		}
		list[i] = string(plain)
	}
	return list, nil
}

// addSecret gives an endpoint a secret, the one given or a fresh one, and a key
// pair if that is wanted.
func (s Store) addSecret(ctx context.Context, q *db.Queries, endpointID uuid.UUID, given string, pair bool) (secret string, public ed25519.PublicKey, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", nil, fmt.Errorf("make id: %w", err)
	}
	secret = given
	var key []byte
	if given == "" {
		secret = signing.NewSecret()
		key = []byte(secret)
	} else if key, err = secretKey(given); err != nil {
		return "", nil, err
	}
	row := db.InsertEndpointSecretParams{ID: id, EndpointID: endpointID}
	if row.Ciphertext, err = s.Keyset.Seal(endpointID, key); err != nil {
		return "", nil, fmt.Errorf("%w: %w", errSecret, err)
	}
	if pair {
		if row.SigningKey, row.PublicKey, err = s.newKeyPair(endpointID); err != nil {
			return "", nil, err
		}
	}
	if err := q.InsertEndpointSecret(ctx, row); err != nil {
		return "", nil, fmt.Errorf("insert secret: %w", err)
	}
	return secret, row.PublicKey, nil
}

// newKeyPair makes a key pair for an endpoint: the seed sealed, and the public key.
func (s Store) newKeyPair(endpointID uuid.UUID) (sealed []byte, public ed25519.PublicKey, err error) {
	key := signing.NewKeyPair()
	if sealed, err = s.Keyset.Seal(endpointID, key.Seed()); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errSecret, err)
	}
	return sealed, key.Public().(ed25519.PublicKey), nil
}
