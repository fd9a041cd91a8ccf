package deliver

import (
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/sql/db"
)

// What tests from outside the package need from inside.
var Post = post

const MaxResponseBody = maxResponseBody

// NewOn is New with another pool.
func NewOn(cfg Config, d process.Deps, pool database) (*Worker, error) {
	w, err := New(cfg, d)
	if err == nil {
		w.pool, w.queries = pool, db.New(pool)
	}
	return w, err
}
