package view

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(withDatabase{m}) }

// withDatabase stops the tests' PostgreSQL before goroutines are counted.
type withDatabase struct{ m *testing.M }

func (w withDatabase) Run() int { return pgtest.Main(w.m) }
