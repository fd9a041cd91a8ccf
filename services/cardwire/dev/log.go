package dev

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	logName = "cardwire.log"
	// maxLog bounds the log file, in bytes. With the one before it the log takes
	// twice that: at 300 bytes a line, the last 400,000 lines or so.
	maxLog = 64 << 20
)

// A logFile is a file of log lines. When it is opened, and when it is full, it
// starts afresh, and what it held is kept as <name>.1. Lines are whole. It is
// safe for concurrent use.
type logFile struct {
	path string
	max  int64

	mu   sync.Mutex
	file *os.File
	size int64
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path, max: maxLog}
	return l, l.rotate()
}

// rotate starts a new file. l.mu is held, but at the start.
func (l *logFile) rotate() error {
	if info, err := os.Stat(l.path); err == nil && info.Size() > 0 {
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file, l.size = file, 0
	return nil
}

// Write writes one line.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(line)) > l.max && l.size > 0 {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	return n, err
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// newLogger logs to file as JSON lines and to terminal in a readable form, each
// from its own level on.
func newLogger(cfg Config, file, terminal io.Writer) zerolog.Logger {
	fileLevel, terminalLevel := level(cfg.LogLevel), level(cfg.Log)
	colour := isTerminal(terminal)
	if terminalLevel >= zerolog.WarnLevel { // below, all was asked for
		terminal = &calm{w: terminal, log: logPath(cfg.Data), now: time.Now}
	}
	readable := zerolog.ConsoleWriter{Out: terminal, TimeFormat: time.TimeOnly, NoColor: !colour}
	w := zerolog.MultiLevelWriter(
		&zerolog.FilteredLevelWriter{Writer: zerolog.LevelWriterAdapter{Writer: file}, Level: fileLevel},
		&zerolog.FilteredLevelWriter{Writer: zerolog.LevelWriterAdapter{Writer: readable}, Level: terminalLevel},
	)
	return zerolog.New(w).Level(min(fileLevel, terminalLevel)).With().Timestamp().Logger()
}

// calmLines is how many lines a terminal gets in a second. A fault that repeats
// with each delivery must not push everything else out of sight.
const calmLines = 10

// A calm writer passes on the first calmLines of each second, and says later how
// many it kept back. It is safe for concurrent use.
type calm struct {
	w   io.Writer
	log string // where all lines are
	now func() time.Time

	mu     sync.Mutex
	second time.Time
	lines  int
}

// Write writes a line, or counts it.
func (c *calm) Write(line []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.second) >= time.Second {
		if c.lines > calmLines {
			if _, err := fmt.Fprintf(c.w, "… %d more such lines in %s\n", c.lines-calmLines, c.log); err != nil {
				return 0, err
			}
		}
		c.second, c.lines = now, 0
	}
	c.lines++
	if c.lines > calmLines {
		return len(line), nil
	}
	return c.w.Write(line)
}

func level(name string) zerolog.Level {
	l, err := zerolog.ParseLevel(name)
	if err != nil || name == "" {
		return zerolog.InfoLevel
	}
	return l
}

// isTerminal says whether w is a terminal, and may get colours.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// logPath is where the log of a data directory is.
func logPath(data string) string { return filepath.Join(data, logName) }
