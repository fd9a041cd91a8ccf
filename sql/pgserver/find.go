package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
)

// ErrNotFound is returned when no installed PostgreSQL fits; [Fetch] may help.
var ErrNotFound = errors.New("no PostgreSQL found")

// versionTimeout bounds one `postgres --version`, which answers in
// milliseconds; it only guards against a program of that name that hangs.
const versionTimeout = 10 * time.Second

// Binaries is one installed PostgreSQL.
type Binaries struct {
	Dir     string // the bin directory; holds initdb and postgres
	Version string // as in 15.18
	Major   int    // as in 15; data made by one major version is unreadable to others
	version version
}

// Options says what [Find], [Fetch] and [Ensure] are to look for.
type Options struct {
	// Dir is the [Config.Dir] that the binaries are wanted for: when it has data,
	// only its major version fits. Empty: any version from [MinMajor] on.
	Dir string
	// FetchDir is where Fetch puts binaries that it doesn't install system-wide,
	// and where Find looks for them. Empty: a cache directory of this user.
	FetchDir string
	Log      zerolog.Logger // progress of a fetch
	patterns []string       // bin directories besides PATH; nil: where packages put them
}

// Find returns the newest PostgreSQL installed on this machine that fits.
// The environment variable PG_BIN, a bin directory, is the only candidate when
// it is set. Else it looks in PATH, where the packages of Debian, Red Hat,
// Homebrew and Postgres.app put it, and in FetchDir. The error is
// [ErrNotFound] when none fits, and says what was wanted and what was seen.
func Find(ctx context.Context, o Options) (Binaries, error) {
	want, err := wantedMajor(o.Dir)
	if err != nil {
		return Binaries{}, err
	}
	if dir := os.Getenv("PG_BIN"); dir != "" {
		b, err := inspect(ctx, dir)
		if err != nil {
			return Binaries{}, fmt.Errorf("look at PG_BIN: %w", err)
		}
		return choose([]Binaries{b}, want, o.Dir)
	}
	var found []Binaries
	for _, dir := range o.candidates() {
		// Most candidates don't exist or hold another program: that's no fault.
		if b, err := inspect(ctx, dir); err == nil {
			found = append(found, b)
		}
	}
	if err := ctx.Err(); err != nil {
		return Binaries{}, fmt.Errorf("look for PostgreSQL: %w", err)
	}
	return choose(found, want, o.Dir)
}

// choose picks the newest of found, of major version want unless that is 0.
func choose(found []Binaries, want int, dir string) (Binaries, error) {
	var best Binaries
	var seen string
	for _, b := range found {
		seen += fmt.Sprintf(", %s in %s", b.Version, b.Dir)
		if b.Major < MinMajor || want != 0 && b.Major != want {
			continue
		}
		if best.Dir == "" || b.version.newer(best.version) {
			best = b
		}
	}
	switch {
	case best.Dir != "":
		return best, nil
	case want != 0 && seen != "":
		return Binaries{}, fmt.Errorf("%w for the data in %s, which needs version %d; installed: %s", ErrNotFound, dir, want, seen[2:])
	case want != 0:
		return Binaries{}, fmt.Errorf("%w for the data in %s, which needs version %d", ErrNotFound, dir, want)
	case seen != "":
		return Binaries{}, fmt.Errorf("%w of version %d or newer; installed: %s", ErrNotFound, MinMajor, seen[2:])
	}
	return Binaries{}, ErrNotFound
}

// inspect returns the PostgreSQL whose initdb and postgres are in dir.
func inspect(ctx context.Context, dir string) (Binaries, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return Binaries{}, err
		} else if info.IsDir() || info.Mode()&0o111 == 0 {
			return Binaries{}, fmt.Errorf("%s is no program", filepath.Join(dir, name))
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("run %s --version: %w", filepath.Join(dir, "postgres"), err)
	}
	v, err := parseVersion(string(out))
	if err != nil {
		return Binaries{}, err
	}
	return Binaries{Dir: dir, Version: v.String(), Major: v.major, version: v}, nil
}

// candidates returns the bin directories to look at, links resolved, each once.
func (o Options) candidates() []string {
	patterns := o.patterns
	if patterns == nil {
		patterns = []string{
			"/usr/lib/postgresql/*/bin",
			"/usr/pgsql-*/bin",
			"/opt/homebrew/opt/postgresql*/bin",
			"/usr/local/opt/postgresql*/bin",
			"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin",
		}
	}
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, pattern := range append(patterns[:len(patterns):len(patterns)], filepath.Join(o.fetchDir(), npmBinGlob)) {
		matches, _ := filepath.Glob(pattern) // fails on a malformed pattern only
		dirs = append(dirs, matches...)
	}
	var all []string
	seen := map[string]bool{"": true}
	for _, dir := range dirs {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil || !filepath.IsAbs(real) || seen[real] {
			continue
		}
		seen[real] = true
		all = append(all, real)
	}
	return all
}

// wantedMajor returns the major version of the data that belongs to dir, be it
// there or where a server started by root had to put it; 0 when there is none.
func wantedMajor(dir string) (int, error) {
	if dir == "" {
		return 0, nil
	}
	home, err := filepath.Abs(dir)
	if err != nil {
		return 0, fmt.Errorf("resolve %s: %w", dir, err)
	}
	major, err := dataMajor(home)
	if major == 0 && err == nil && os.Geteuid() == 0 {
		return dataMajor(relocated(home))
	}
	return major, err
}
