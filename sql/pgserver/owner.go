package pgserver

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An owner is the user that initdb and postgres run as and that owns the data.
type owner struct {
	name string
	cred *syscall.Credential // nil: the user of this process
}

// findOwner returns this process's user, or for root, which PostgreSQL refuses
// to run as, postgres or nobody.
func findOwner() (owner, error) {
	if os.Geteuid() != 0 {
		return owner{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return owner{}, fmt.Errorf("read the id of user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return owner{}, fmt.Errorf("read the group of user %s: %w", name, err)
		}
		return owner{name: name, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return owner{}, fmt.Errorf("PostgreSQL can't run as root, and there is neither a user postgres nor a user nobody")
}

// uid returns the owner's user id.
func (o owner) uid() int {
	if o.cred == nil {
		return os.Geteuid()
	}
	return int(o.cred.Uid)
}

// command is a program run as the owner, in dir, with nothing of our
// environment but what finds programs and libraries: PG… variables would change
// what the server does, and secrets are none of its business.
func (o owner) command(dir, path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = childAttr(o.cred)
	cmd.Env = []string{"LC_ALL=C"} // English messages; macOS's postgres doesn't start without a locale
	for _, name := range []string{"PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	return cmd
}

// canRun reports as an error why the owner can't run postgres in dir.
func (o owner) canRun(ctx context.Context, postgres, dir string) error {
	if o.cred == nil {
		return nil
	}
	p, err := startProcess(o.command(dir, postgres, "--version"))
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !p.cmd.ProcessState.Success() {
		return p.err
	}
	return nil
}

// own makes dir and all in it the owner's, closed to other users.
func (o owner) own(dir string) error {
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	if o.cred == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(o.cred.Uid), int(o.cred.Gid))
	})
}

// ownedBy returns the id of the user that a file belongs to.
func ownedBy(info fs.FileInfo) int {
	return int(info.Sys().(*syscall.Stat_t).Uid)
}
