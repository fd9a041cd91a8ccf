package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// MinMajor is the oldest major version that Cardwire runs on.
const MinMajor = 14

// version is what `postgres --version` says: 15.18, or 19beta1 with minor 0.
type version struct{ major, minor int }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

// newer orders versions by major, then minor.
func (v version) newer(w version) bool {
	return v.major > w.major || v.major == w.major && v.minor > w.minor
}

// parseVersion reads the line that `postgres --version` prints, such as
// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func parseVersion(line string) (version, error) {
	_, rest, ok := strings.Cut(line, "(PostgreSQL) ")
	major, after := leadingInt(rest)
	if !ok || major == 0 {
		return version{}, fmt.Errorf("no PostgreSQL version in %q", strings.TrimSpace(line))
	}
	v := version{major: major}
	if minor, dotted := strings.CutPrefix(after, "."); dotted {
		v.minor, _ = leadingInt(minor)
	}
	return v, nil
}

func leadingInt(s string) (n int, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, _ = strconv.Atoi(s[:end])
	return n, s[end:]
}

// dataMajor returns the major version that the data in a cluster's home was
// made by, 0 when there is none yet.
func dataMajor(home string) (int, error) {
	file := filepath.Join(home, "data", "PG_VERSION")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the data: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read the version of the data: %s holds %q", file, strings.TrimSpace(string(b)))
	}
	return major, nil
}
