package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

const (
	// diskSize is how much a disk takes while it isn't full; it takes of the memory
	// what is written.
	diskSize = 1 << 30
	// squeeze is how often what was freed meanwhile is taken away again.
	squeeze = 50 * time.Millisecond
)

// A disk is a small file system of its own. Without the right to mount one it is a
// directory, which can't be full.
type disk struct {
	dir     string
	mounted bool
}

// openDisk makes dir a disk.
func openDisk(dir string) (disk, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return disk{}, fmt.Errorf("make directory: %w", err)
	}
	d := disk{dir: dir, mounted: mountSmall(dir, diskSize) == nil}
	return d, os.Chmod(dir, 0o755) // a mounted one can be written by everybody
}

func (d disk) close() {
	if d.mounted {
		_ = unmount(d.dir)
	}
}

// full leaves the disk no free space for a while.
func (d disk) full(rnd *rand.Rand) error {
	if !d.mounted {
		return fmt.Errorf("%w: no right to mount a small disk", errSkipped)
	}
	end := time.Now().Add(time.Second + time.Duration(rnd.Int64N(int64(2*time.Second))))
	for time.Now().Before(end) {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &fs); err != nil {
			return fmt.Errorf("look at disk: %w", err)
		}
		// Refused if more was written meanwhile: then the next one takes that.
		_ = resizeSmall(d.dir, max(1, fs.Blocks-fs.Bfree)*uint64(fs.Bsize))
		time.Sleep(squeeze)
	}
	return resizeSmall(d.dir, diskSize)
}

// brokerDiskFull fills the broker's disk. A nats-server that could not write to a
// stream takes nothing more for it, however much space there is, until it is started
// anew: as its supervisor would, the lab does that.
func brokerDiskFull(_ context.Context, s *stack, _ *run, rnd *rand.Rand) error {
	if err := s.disk.full(rnd); err != nil {
		return err
	}
	pause(rnd, 0, time.Second)
	s.procs[brokerName].kill()
	return s.procs[brokerName].startReady()
}

// postgresDiskFull fills PostgreSQL's disk. Statements fail that need more space; if
// its log does, it crashes, and ends if there is none to recover with: then its
// supervisor starts it again.
func postgresDiskFull(ctx context.Context, s *stack, _ *run, rnd *rand.Rand) error {
	ended := make(chan struct{})
	go func() {
		_ = s.postgres.Wait()
		close(ended)
	}()
	if err := s.postgresDisk.full(rnd); err != nil {
		return err
	}
	for end := time.Now().Add(postgresBack); time.Now().Before(end); time.Sleep(quietPoll) {
		select {
		case <-ended:
			return s.postgres.Restart(ctx)
		default:
		}
		if c, err := s.connectDirectly(ctx); err == nil {
			return c.Close(ctx)
		}
	}
	return errors.New("PostgreSQL has space again, and neither answers nor ends")
}

// postgresBack bounds PostgreSQL's recovery once its disk has space again.
const postgresBack = 30 * time.Second
