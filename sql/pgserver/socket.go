package pgserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxSocketPath is the longest path of a socket that every system takes, in
// bytes: macOS has 104 including the NUL, Linux 108.
const maxSocketPath = 103

// socketDir returns where the socket of a cluster goes: into its home, or when
// that path is too long for a socket, or holds a comma, which separates hosts in
// a URL, below the directory for temporary files.
// It depends on home alone, so that a URL outlives a restart.
func socketDir(home string) (string, error) {
	for _, dir := range []string{
		filepath.Join(home, "run"),
		filepath.Join(os.TempDir(), "cardwire-"+hash(home)),
		filepath.Join("/tmp", "cardwire-"+hash(home)),
	} {
		if len(filepath.Join(dir, ".s.PGSQL."+port)) <= maxSocketPath && !strings.Contains(dir, ",") {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find a place for the socket of %s: all paths are longer than %d bytes or hold a comma", home, maxSocketPath)
}

// makeSocketDir makes the socket's directory. One that exists must be a
// directory of the server's user or ours, closed to others: in /tmp anybody can
// make one of that name.
func (c cluster) makeSocketDir() error {
	err := os.Mkdir(c.socketDir, 0o700)
	if err != nil && !os.IsExist(err) {
		return fmt.Errorf("make the directory of the socket: %w", err)
	}
	info, err := os.Lstat(c.socketDir)
	if err != nil {
		return fmt.Errorf("make the directory of the socket: %w", err)
	}
	uid := ownedBy(info)
	if !info.IsDir() || uid != c.owner.uid() && uid != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("make the directory of the socket: %s exists and isn't a private directory of ours", c.socketDir)
	}
	if err := c.owner.own(c.socketDir); err != nil {
		return fmt.Errorf("make the directory of the socket: %w", err)
	}
	// What a killed server left here would stop the next one if its process id
	// has a new bearer.
	for _, name := range []string{".s.PGSQL." + port, ".s.PGSQL." + port + ".lock"} {
		if err := os.RemoveAll(filepath.Join(c.socketDir, name)); err != nil {
			return fmt.Errorf("clear the directory of the socket: %w", err)
		}
	}
	return nil
}

// removeSockets removes the socket's directory once the server has ended, unless
// it is part of home.
func (c cluster) removeSockets() {
	if filepath.Dir(c.socketDir) != c.home {
		_ = os.Remove(c.socketDir) // if it isn't empty, the next start uses it again
	}
}
