package timerslack

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// executed is in the environment of a program that Set has executed again.
const executed = "CARDWIRE_TIMER_SLACK_SET"

// Set has the timers of this process, and of those that it starts, fire up to slack
// late; 0 leaves them as they are. It is to be called before anything is begun: the
// runtime's own thread is there before main and has the slack that the process was
// started with, so the program is executed once more, as the same process with the
// same arguments. Set returns when that is done or not needed; with an error the
// process is as it was.
func Set(slack time.Duration) error {
	again := os.Getenv(executed) != ""
	if err := os.Unsetenv(executed); err != nil {
		return err
	}
	if slack == 0 {
		return nil
	}
	runtime.LockOSThread() // slack is a thread's, and what is executed has that of who executes it
	defer runtime.UnlockOSThread()
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	switch {
	case err != nil:
		return fmt.Errorf("read the timer slack: %w", err)
	case time.Duration(now) == slack:
		return nil
	case again:
		return errors.New("the timer slack is not kept when a program is executed")
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	err = unix.Exec(program, os.Args, append(os.Environ(), executed+"=1"))
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(now), 0, 0, 0)
	return fmt.Errorf("execute %s again: %w", program, err)
}
