package auth

import (
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Mint returns a token that a [Verifier] with the same secret, and without issuer
// and audience, takes for user from now until ttl has passed. It is for
// development and tests: in production DevCard's login mints them. It fails if
// the secret is too short.
func Mint(secret string, user uuid.UUID, ttl time.Duration, now time.Time) (string, error) {
	if err := checkSecret(secret); err != nil {
		return "", err
	}
	id := user.String()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   id,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		},
		UserID: &id,
	}).SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("mint a token for user %v: %w", user, err)
	}
	return token, nil
}
