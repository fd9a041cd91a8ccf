package migrations

import (
	"embed"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

//go:embed testdata/previous/*.sql
var previous embed.FS

// parameter is a parameter of sqlc's with its cast, if it has one.
var parameter = regexp.MustCompile(`@([a-z_]+)(::[a-z0-9\[\]]+)?`)

// positional makes sqlc's named parameters PostgreSQL's: the same name is the
// same number, and its type is that of its first cast.
func positional(sql string) string {
	numbers := make(map[string]string)
	return parameter.ReplaceAllStringFunc(sql, func(p string) string {
		m := parameter.FindStringSubmatch(p)
		if numbers[m[1]] == "" {
			numbers[m[1]] = "$" + strconv.Itoa(len(numbers)+1)
		}
		return numbers[m[1]] + m[2]
	})
}

// testdata/previous holds the hot statements of the version before this schema:
// its services run beside a newer one's migrations. When a version is released,
// copy its sql/queries there.
func TestTheVersionBeforeCanUseThisSchema(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	if err := Up(t.Context(), url, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	names, err := fs.Glob(previous, "testdata/previous/*.sql")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	n := 0
	for _, name := range names {
		file, err := fs.ReadFile(previous, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range strings.Split(string(file), "-- name: ")[1:] {
			title, sql, _ := strings.Cut(statement, "\n")
			if _, err := conn.Prepare(t.Context(), title, positional(sql)); err != nil {
				t.Errorf("%s: %s: %v", name, title, err)
			}
			n++
		}
	}
	if n < 20 {
		t.Errorf("only %d statements", n)
	}
}
