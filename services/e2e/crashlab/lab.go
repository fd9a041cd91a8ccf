package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgserver"
)

// A lab is what all seeds share: a directory and the built services.
type lab struct {
	cfg  config
	dir  string
	bin  string // directory of the services' binaries
	self string // this program
	tags string // what the services are built with
}

// openLab makes a lab. If it fails, nothing is left.
func openLab(ctx context.Context, cfg config, tags string) (l *lab, err error) {
	l = &lab{cfg: cfg, bin: cfg.Bin, tags: tags}
	if l.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	if l.dir, err = os.MkdirTemp(cfg.Dir, "cardwire-crashlab-"); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(l.dir))
	}
	return l, nil
}

// build builds the services, once.
func (l *lab) build(ctx context.Context) error {
	if l.bin != "" {
		return nil
	}
	l.bin = filepath.Join(l.dir, "bin")
	args := []string{"build", "-tags", l.tags, "-o", l.bin + "/"}
	for _, name := range []string{"views", "webhooks", "deliverer"} {
		args = append(args, "github.com/cardwire/cardwire/services/"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// close removes the files, but for those of seeds that are kept.
func (l *lab) close() error {
	_ = os.Remove(filepath.Join(l.dir, "nats.conf"))
	if filepath.Dir(l.bin) == l.dir {
		if err := os.RemoveAll(l.bin); err != nil {
			return err
		}
	}
	_ = os.Remove(l.dir) // stays if something in it is kept
	return nil
}

// A slot runs one seed after another, on a PostgreSQL of its own: faults of one
// seed must not touch those beside it.
type slot struct {
	*lab
	postgres     *pgserver.Throwaway
	postgresDisk disk
}

// openSlot opens a slot. Its disk is not in the lab's directory, which only we may
// enter: PostgreSQL runs as another user.
func (l *lab) openSlot(ctx context.Context) (s *slot, err error) {
	s = &slot{lab: l}
	if s.postgresDisk, err = openDisk(filepath.Join(os.TempDir(), "cardwire-disk-"+uuid.NewString())); err != nil {
		return nil, err
	}
	if s.postgresDisk.mounted {
		s.postgres, err = pgserver.NewThrowawayIn(ctx, s.postgresDisk.dir, zerolog.Nop())
	} else {
		s.postgres, err = pgserver.NewThrowaway(ctx, zerolog.Nop()) // in memory all the same, if it can
	}
	if err == nil {
		err = migrations.Up(ctx, s.postgres.URL(), zerolog.Nop()) // each seed gets a copy
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *slot) close() (err error) {
	if s.postgres != nil {
		err = s.postgres.Close()
	}
	s.postgresDisk.close()
	return errors.Join(err, os.Remove(s.postgresDisk.dir))
}
