package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgserver"
)

// services are the commands that are measured.
var services = [...]string{"views", "webhooks", "deliverer"}

// A lab is what all scenarios share: a directory, the built services, the
// broker's configuration and a PostgreSQL with durable settings.
type lab struct {
	cfg      config
	dir      string
	bin      string // directory of the services' binaries
	self     string // this program
	natsConf string
	postgres *pgserver.Server
	progress io.Writer
	stacks   int // started so far
	run      int // from 1
	results  []result
	figures  []figure
}

// openLab makes a lab. If it fails, nothing is left.
func openLab(ctx context.Context, cfg config, progress io.Writer) (l *lab, err error) {
	l = &lab{cfg: cfg, bin: cfg.Bin, progress: progress}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.self, err = os.Executable(); err != nil {
		return l, fmt.Errorf("find this program: %w", err)
	}
	if l.dir, err = os.MkdirTemp(cfg.Dir, "cardwire-bench-"); err != nil {
		return l, fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chmod(l.dir, 0o755); err != nil { // PostgreSQL may run as another user
		return l, fmt.Errorf("open directory: %w", err)
	}
	if err := l.writeConf(); err != nil {
		return l, err
	}
	if err := l.build(ctx); err != nil {
		return l, err
	}
	return l, l.startPostgres(ctx)
}

func (l *lab) writeConf() error {
	conf, err := os.ReadFile(l.cfg.NATSConf)
	if err != nil {
		return fmt.Errorf("read broker configuration: %w", err)
	}
	if conf, err = brokerConf(conf, l.cfg.Sync); err != nil {
		return err
	}
	l.natsConf = filepath.Join(l.dir, "nats.conf")
	if err := os.WriteFile(l.natsConf, conf, 0o600); err != nil {
		return fmt.Errorf("write broker configuration: %w", err)
	}
	return nil
}

// build builds the services, once.
func (l *lab) build(ctx context.Context) error {
	if l.bin != "" {
		return nil
	}
	l.bin = filepath.Join(l.dir, "bin")
	if err := os.Mkdir(l.bin, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	args := []string{"build", "-o", l.bin}
	for _, name := range services {
		args = append(args, "github.com/cardwire/cardwire/services/"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

func (l *lab) startPostgres(ctx context.Context) error {
	dir := filepath.Join(l.dir, "postgres")
	bin, err := pgserver.Ensure(ctx, pgserver.Options{Dir: dir})
	if err != nil {
		return err
	}
	if l.postgres, err = pgserver.Start(ctx, pgserver.Config{Bin: bin, Dir: dir, Settings: l.cfg.postgresSettings(), Log: zerolog.Nop()}); err != nil {
		return err
	}
	return migrations.Up(ctx, l.postgres.URL(), zerolog.Nop()) // each stack gets a copy
}

// close stops what is left and removes the files.
func (l *lab) close() (err error) {
	if l.postgres != nil {
		err = errors.Join(l.postgres.StopNow(), os.RemoveAll(l.postgres.Dir()))
	}
	if l.dir != "" {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	return err
}
