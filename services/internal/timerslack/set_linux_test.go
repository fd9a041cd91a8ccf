package timerslack_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cardwire/cardwire/services/internal/timerslack"
)

// asChild names the slack for this program to set, as a child of the test.
const asChild = "TIMERSLACK_CHILD"

func TestMain(m *testing.M) {
	if slack := os.Getenv(asChild); slack != "" {
		child(slack)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child sets a slack and prints what it is then: its PID, its arguments, what is
// left of Set in the environment, and the slacks that its threads have.
func child(slack string) {
	d, err := time.ParseDuration(slack)
	if err == nil {
		err = timerslack.Set(d)
	}
	if err != nil {
		fmt.Println(err)
	}
	left := 0
	for _, env := range os.Environ() {
		if strings.Contains(env, "TIMER_SLACK_SET") {
			left++
		}
	}
	fmt.Println(os.Getpid(), os.Args[1:], left, slacks())
}

// slacks are those of this thread and, if the system lets us see them, the others.
func slacks() map[string]int {
	n := make(map[string]int)
	own, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		fmt.Println(err)
	}
	n[strconv.Itoa(own)] = 1
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		fmt.Println(err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		switch {
		case err == nil:
			n[strings.TrimSpace(string(text))] = 1
		case !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist):
			fmt.Println(err)
		}
	}
	return n
}

func TestAllThreadsOfTheSameProcessHaveTheSlack(t *testing.T) {
	t.Parallel()
	own, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ slack, want string }{
		{"3ms", "3000000"},
		{"0s", strconv.Itoa(own)}, // as the test was started
	} {
		t.Run(tt.slack, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "an argument", "-x")
			cmd.Env = append(os.Environ(), asChild+"="+tt.slack)
			out, err := cmd.CombinedOutput()
			want := fmt.Sprintf("%d [an argument -x] 0 map[%s:1]\n", cmd.Process.Pid, tt.want)
			if err != nil || string(out) != want {
				t.Errorf("the child says %s, %v; want %s", out, err, want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for slack, good := range map[time.Duration]bool{
		0: true, 4 * time.Millisecond: true, 10 * time.Millisecond: true,
		-time.Nanosecond: false, 10*time.Millisecond + time.Nanosecond: false,
	} {
		if err := timerslack.Check(slack); (err == nil) != good {
			t.Errorf("%s: %v", slack, err)
		}
	}
}
