package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// diskSize is how much the broker's disk takes, and diskPerEvent what each event
	// of a seed adds: several times what it needs.
	diskSize     = 32 << 20
	diskPerEvent = 16 << 10
	// refill is how often what was freed meanwhile is filled again.
	refill = 50 * time.Millisecond
)

// A disk is a small file system of the broker's own. Without the right to mount
// one it is a directory, which can't be full.
type disk struct {
	dir     string
	mounted bool
}

func openDisk(dir string, size int) (d disk, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return d, fmt.Errorf("make directory: %w", err)
	}
	return disk{dir: dir, mounted: mountSmall(dir, size) == nil}, nil
}

func (d disk) close() {
	if d.mounted {
		_ = unmount(d.dir)
	}
}

// diskFull fills the broker's disk and keeps it full for a while. A nats-server that
// could not write to a stream takes nothing more for it, however much space there
// is, until it is started anew: as its supervisor would, the lab does that.
func diskFull(_ context.Context, s *stack, _ *run, rnd *rand.Rand) error {
	if !s.disk.mounted {
		return fmt.Errorf("%w: no right to mount a small disk", errSkipped)
	}
	ballast, err := os.Create(filepath.Join(s.disk.dir, "ballast"))
	if err != nil {
		return err
	}
	defer ballast.Close()
	end := time.Now().Add(time.Second + time.Duration(rnd.Int64N(int64(2*time.Second))))
	for time.Now().Before(end) {
		if err := fill(ballast); err != nil {
			return err
		}
		time.Sleep(refill)
	}
	if err := os.Remove(ballast.Name()); err != nil {
		return err
	}
	_ = ballast.Close()
	pause(rnd, 0, time.Second)
	s.procs[brokerName].kill()
	return s.procs[brokerName].startReady()
}

// fill writes until there is no space left.
func fill(f *os.File) error {
	for n := 1 << 20; n >= 1; {
		_, err := f.Write(make([]byte, n))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			n /= 16
		case err != nil:
			return fmt.Errorf("fill disk: %w", err)
		}
	}
	return nil
}
