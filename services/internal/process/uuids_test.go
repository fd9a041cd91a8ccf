package process

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestUUIDsGoThroughPostgreSQLUnchanged(t *testing.T) {
	t.Parallel()
	pool, err := OpenDB(t.Context(), pgtest.URL(t), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	id, other := uuid.New(), uuid.New()
	for name, ids := range map[string][]uuid.UUID{"none": {}, "one": {id}, "several, one of them zero": {id, uuid.Nil, other}} {
		t.Run(name, func(t *testing.T) {
			var got []uuid.UUID
			var texts []string
			if err := pool.QueryRow(t.Context(), "SELECT $1::uuid[], $1::uuid[]::text[]", ids).Scan(&got, &texts); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(ids, got); diff != "" {
				t.Error(diff)
			}
			want := make([]string, 0, len(ids))
			for _, id := range ids {
				want = append(want, id.String())
			}
			if diff := cmp.Diff(want, texts); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("NULLs", func(t *testing.T) {
		var none *uuid.UUID
		some := &id
		var isNull bool
		var nothing []uuid.UUID
		err := pool.QueryRow(t.Context(), "SELECT $1::uuid, $2::uuid, $3::uuid[] IS NULL", none, some, nothing).Scan(&some, &none, &isNull)
		if err != nil {
			t.Fatal(err)
		}
		if some != nil || none == nil || *none != id || !isNull {
			t.Errorf("got %v, %v, %v", some, none, isNull)
		}
		var plain uuid.UUID
		if err := pool.QueryRow(t.Context(), "SELECT NULL::uuid").Scan(&plain); err == nil {
			t.Error("NULL was read into a uuid.UUID")
		}
		var perhaps uuid.NullUUID
		if err := pool.QueryRow(t.Context(), "SELECT $1::uuid", uuid.NullUUID{UUID: id, Valid: true}).Scan(&perhaps); err != nil || perhaps.UUID != id {
			t.Errorf("got %v, %v", perhaps, err)
		}
	})
}
