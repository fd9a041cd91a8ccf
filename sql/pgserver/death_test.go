package pgserver

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// TestMain is also the process that starts a throwaway server and then is
// killed, for TestNothingIsLeftOfAKilledProcess.
func TestMain(m *testing.M) {
	if os.Getenv("PGSERVER_TEST_VICTIM") == "" {
		os.Exit(m.Run())
	}
	pg, err := NewThrowaway(context.Background(), zerolog.Nop())
	if err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	os.Stdout.WriteString(pg.URL() + " " + pg.Dir() + "\n")
	select {}
}

func TestNothingIsLeftOfAKilledProcess(t *testing.T) {
	t.Parallel()
	victim := exec.CommandContext(t.Context(), os.Args[0])
	victim.Env = append(os.Environ(), "PGSERVER_TEST_VICTIM=1")
	victim.Stderr = t.Output()
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
	conn := connect(t, url)

	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT pg_sleep(60)"); err == nil || ctx.Err() != nil {
		t.Errorf("the session ended with %v; want the server to break it", err)
	}
	awaitGone(ctx, t, dir)
}

// awaitGone waits until another process has removed dir.
func awaitGone(ctx context.Context, t *testing.T, dir string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is still there", dir)
		}
	}
}

func TestClosedThrowawayLeavesNothing(t *testing.T) {
	t.Parallel()
	pg, err := NewThrowaway(t.Context(), zerolog.New(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	read(t, pg.URL(), "SELECT 'it answers'")
	if err := pg.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(pg.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its files: %v; want none", err)
	}
	if args := commandLine(pg.PID()); args != "" {
		t.Errorf("process %d goes on: %s", pg.PID(), args)
	}
}
