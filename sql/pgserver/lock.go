package pgserver

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// errLocked is returned while another process holds a lock.
var errLocked = errors.New("locked by another process")

// lockPoll is the pause between two tries for a lock that another process
// holds: flock itself can't be given up when a context ends.
const lockPoll = 50 * time.Millisecond

// tryLock takes the lock of a file, made when missing. The kernel frees it when
// this process ends, however it ends; child processes don't inherit it. The
// error is errLocked when somebody holds it.
func tryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() {
		// Closing is not enough: a child that was forked and has not become
		// another program yet has the file open too.
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		f.Close()
	}, nil
}
