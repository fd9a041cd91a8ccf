package reseal

import (
	"context"
	"fmt"

	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/sql/db"
)

// A Use is how many values of a column one key has sealed.
type Use struct {
	Place string // table.column
	KeyID uint32
	Ours  bool // false: no key of ours sealed it, and KeyID is 0
	N     int
}

// String says it in words, for people.
func (u Use) String() string {
	if !u.Ours {
		return fmt.Sprintf("%s: %d that no keyset of ours sealed", u.Place, u.N)
	}
	return fmt.Sprintf("%s: %d under key %d", u.Place, u.N, u.KeyID)
}

// A Usage is which keys have sealed what is in the database, by place and key.
type Usage []Use

// Count reads through all sealed values, and returns by which keys they are sealed.
func Count(ctx context.Context, conn db.DBTX) (Usage, error) {
	rows, err := db.New(conn).CountSealed(ctx)
	if err != nil {
		return nil, fmt.Errorf("count rows by key: %w", err)
	}
	usage := make(Usage, len(rows))
	for i, row := range rows {
		usage[i] = Use{Place: row.Place, N: int(row.N)}
		usage[i].KeyID, usage[i].Ours = secrets.KeyID(row.Prefix)
	}
	return usage, nil
}

// Without returns what is sealed by other keys than one.
func (u Usage) Without(keyID uint32) (others Usage) {
	for _, use := range u {
		if !use.Ours || use.KeyID != keyID {
			others = append(others, use)
		}
	}
	return others
}

// Values is how many sealed values that is.
func (u Usage) Values() (n int) {
	for _, use := range u {
		n += use.N
	}
	return n
}
