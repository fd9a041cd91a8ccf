package pgserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// rootHome is where clusters of root go whose own place the server's user can't
// reach, such as below a home directory.
const rootHome = "/var/lib/cardwire"

// initdbTimeout bounds initdb, which takes 1 to 3 s.
const initdbTimeout = 2 * time.Minute

// A cluster is where a server's files are and who owns them.
type cluster struct {
	bin       string // directory of initdb and postgres
	owner     owner
	home      string // holds all but perhaps the socket
	data      string
	socketDir string
}

// relocated returns the place of root's cluster when dir can't be it.
func relocated(dir string) string { return filepath.Join(rootHome, hash(dir)) }

func hash(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:6])
}

// locate finds a home that the server's user can reach, and makes it.
func locate(ctx context.Context, cfg Config) (cluster, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return cluster{}, fmt.Errorf("resolve %s: %w", cfg.Dir, err)
	}
	o, err := findOwner()
	if err != nil {
		return cluster{}, err
	}
	postgres := filepath.Join(cfg.Bin.Dir, "postgres")
	if err := o.canRun(ctx, postgres, "/"); err != nil {
		return cluster{}, fmt.Errorf("run %s as user %s: %w", postgres, o.name, err)
	}
	home := dir
	err = makeHome(ctx, o, postgres, home)
	if errors.Is(err, fs.ErrPermission) && o.cred != nil {
		if major, dataErr := dataMajor(dir); major != 0 || dataErr != nil {
			return cluster{}, fmt.Errorf("user %s can't reach the data in %s: %w", o.name, dir, errors.Join(err, dataErr))
		}
		_ = os.Remove(dir) // when we made it, it is empty
		home = relocated(dir)
		cfg.Log.Warn().Str("dir", dir).Str("instead", home).Str("user", o.name).
			Msg("the user that PostgreSQL runs as can't reach its directory: using another one")
		err = makeHome(ctx, o, postgres, home)
	}
	if err != nil {
		return cluster{}, fmt.Errorf("make the directory for PostgreSQL: %w", err)
	}
	c := cluster{bin: cfg.Bin.Dir, owner: o, home: home, data: filepath.Join(home, "data")}
	c.socketDir, err = socketDir(home)
	return c, err
}

// makeHome makes a home that the owner can enter; the error is fs.ErrPermission
// when it can't.
func makeHome(ctx context.Context, o owner, postgres, home string) error {
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	info, err := os.Stat(home)
	if err != nil {
		return err
	}
	if info.Mode().Perm() != 0o700 || ownedBy(info) != o.uid() {
		if err := onlyOurs(home); err != nil {
			return err
		}
		if err := o.own(home); err != nil {
			return err
		}
	}
	return o.canRun(ctx, postgres, home)
}

// onlyOurs reports as an error that home holds anything but a cluster: then it
// isn't ours to give to another user.
func onlyOurs(home string) error {
	entries, err := os.ReadDir(home)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case "data", "data.new", "run", "lock", "postgres.log", "postgres.log.old":
		default:
			return fmt.Errorf("%s holds %q, which isn't PostgreSQL's: it needs a directory of its own", home, e.Name())
		}
	}
	return nil
}

// command is one of PostgreSQL's programs, run as the owner.
func (c cluster) command(name string, args ...string) *exec.Cmd {
	return c.owner.command(c.home, filepath.Join(c.bin, name), args...)
}

// prepare makes what the server needs to start: the socket's directory, and the
// data when there is none. Data of another major version is refused.
func (c cluster) prepare(ctx context.Context, cfg Config) error {
	if err := c.makeSocketDir(); err != nil {
		return err
	}
	major, err := dataMajor(c.home)
	switch {
	case err != nil:
		return err
	case major == 0:
		return c.initialise(ctx, cfg.Throwaway)
	case major != cfg.Bin.Major:
		return fmt.Errorf("the data was made by PostgreSQL %d, which %d can't read: install version %d, or move the data away", major, cfg.Bin.Major, major)
	}
	return nil
}

// initialise makes the data with initdb: in a directory beside it, so that an
// initdb that was killed leaves no half of a cluster.
//
// Trust authentication lets in whoever can connect. That is fine only because
// nothing listens on TCP (where it is "reject" in any case) and the socket is in
// a directory which no other user but root can enter.
func (c cluster) initialise(ctx context.Context, throwaway bool) error {
	if entries, err := os.ReadDir(c.data); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s holds files but no PostgreSQL data: move it away", c.data)
	}
	fresh := c.data + ".new"
	for _, dir := range []string{fresh, c.data} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("clear %s: %w", dir, err)
		}
	}
	args := []string{
		"-D", fresh, "-U", superuser, "--auth-local=trust", "--auth-host=reject",
		"--encoding=UTF8", "--locale=C", // sorts by bytes: the same order on every machine
		"--no-instructions",
	}
	if throwaway {
		args = append(args, "--no-sync")
	}
	if err := c.runInitdb(ctx, args); err != nil {
		return err
	}
	if err := os.Rename(fresh, c.data); err != nil {
		return fmt.Errorf("put the new data in place: %w", err)
	}
	return nil
}

func (c cluster) runInitdb(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, initdbTimeout)
	defer cancel()
	out, err := os.CreateTemp("", "initdb")
	if err != nil {
		return fmt.Errorf("run initdb: %w", err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := c.command("initdb", args...)
	cmd.Stdout, cmd.Stderr = out, out
	p, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("run initdb: %w", err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-p.done
	}
	if cmd.ProcessState.Success() {
		return nil
	}
	said, _ := os.ReadFile(out.Name())
	return fmt.Errorf("run initdb: %w%s", errors.Join(p.err, ctx.Err()), quoteTail(said))
}
