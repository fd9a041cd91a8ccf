package pgserver

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	// maxLogBytes is the size from which a start moves the log to
	// postgres.log.old, so that the two stay small beside the data.
	maxLogBytes = 8 << 20
	// tailLines and tailBytes bound what an error quotes: enough for the cause,
	// which PostgreSQL tells in its last lines.
	tailLines = 12
	tailBytes = 4 << 10
)

func (c cluster) logPath() string { return filepath.Join(c.home, "postgres.log") }

// openLog opens the server's log to append to, and returns its size.
func (c cluster) openLog() (f *os.File, size int64, err error) {
	if info, err := os.Stat(c.logPath()); err == nil && info.Size() > maxLogBytes {
		if err := os.Rename(c.logPath(), c.logPath()+".old"); err != nil {
			return nil, 0, fmt.Errorf("move the old log away: %w", err)
		}
	}
	f, err = os.OpenFile(c.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open PostgreSQL's log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open PostgreSQL's log: %w", err)
	}
	return f, info.Size(), nil
}

// logTail quotes the last lines of the log from offset start on.
func (c cluster) logTail(start int64) string {
	f, err := os.Open(c.logPath())
	if err != nil {
		return "; its log can't be read: " + err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		start = max(start, info.Size()-tailBytes)
	}
	b, _ := io.ReadAll(io.NewSectionReader(f, start, tailBytes)) // what was read is all there is to quote
	return quoteTail(b)
}

// quoteTail formats the last lines that a program printed for the end of an
// error message, empty if it printed none.
func quoteTail(b []byte) string {
	b = bytes.TrimSpace(b[max(0, len(b)-tailBytes):])
	if len(b) == 0 {
		return ""
	}
	lines := bytes.Split(b, []byte("\n"))
	lines = lines[max(0, len(lines)-tailLines):]
	return "; it said:\n\t" + string(bytes.Join(lines, []byte("\n\t")))
}
