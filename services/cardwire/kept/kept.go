// Package kept finds the secrets of cardwire dev: in the environment, or else in
// the data directory, where they are made once and stay.
//
// Each is a file <data>/secrets/<NAME>, named like the environment variable, of
// one line, readable by its owner only. Whoever loses ENCRYPTION_KEYSET loses the
// endpoints' secrets in the database beside it.
package kept

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The names of what is kept, which are those of the environment variables.
const (
	JWTSecret        = "JWT_SECRET"
	EncryptionKeyset = "ENCRYPTION_KEYSET"
	DatabaseURL      = "DATABASE_URL" // of the PostgreSQL that dev started; the same at each start
)

// BrokerPassword is the name under which the password of a user of nats.conf is
// kept.
func BrokerPassword(user string) string { return "NATS_" + strings.ToUpper(user) + "_PASSWORD" }

// ErrNone is returned by [Find] if a secret is neither in the environment nor
// kept.
var ErrNone = errors.New("neither in the environment nor kept")

// Dir is where the secrets of a data directory are.
func Dir(data string) string { return filepath.Join(data, "secrets") }

// Find returns the environment variable name, or if that is unset or empty what
// is kept under that name. The error is [ErrNone] if there is neither.
func Find(data, name string) (string, error) {
	if v := os.Getenv(name); v != "" {
		return v, nil
	}
	file := filepath.Join(Dir(data), name)
	b, err := os.ReadFile(file)
	v := strings.TrimSpace(string(b))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s: %w in %s", name, ErrNone, Dir(data))
	case err != nil:
		return "", fmt.Errorf("read %s: %w", name, err)
	case v == "":
		return "", fmt.Errorf("read %s: %s is empty", name, file)
	}
	return v, nil
}

// Ensure is Find, and keeps what fresh returns if there is nothing yet. Only
// one process at a time may call it for the same data directory.
func Ensure(data, name string, fresh func() (string, error)) (string, error) {
	v, err := Find(data, name)
	if !errors.Is(err, ErrNone) {
		return v, err
	}
	if v, err = fresh(); err != nil {
		return "", fmt.Errorf("make %s: %w", name, err)
	}
	return v, Keep(data, name, v)
}

// Keep writes a secret of one line, in place of one kept before. After a crash
// there is the old one or the new one, whole.
func Keep(data, name, value string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep %s: %w", name, err)
		}
	}()
	dir := Dir(data)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.WriteString(value + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Forget removes what is kept under name, if anything is.
func Forget(data, name string) error {
	if err := os.Remove(filepath.Join(Dir(data), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget %s: %w", name, err)
	}
	return nil
}
