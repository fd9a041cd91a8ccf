// Package timerslack has this process's timers fire a little late, so that the
// system wakes it up less often.
//
// Whenever a Go program has something to do again, its runtime looks after its
// threads each 20 µs for a while (sysmon, in runtime/proc.go): each look is a
// timer's interrupt and two switches of threads. A service that gets something to
// do each millisecond does that all the time. On a virtual machine, where interrupts
// are dear, it was a quarter of what viewing a card costs (docs/performance.md).
package timerslack

import (
	"fmt"
	"time"
)

// most is the longest slack: nothing that we do goes by shorter times than 20 ms.
const most = 10 * time.Millisecond

// NotSet is what to log when Set fails: all works, and costs more.
const NotSet = "TIMER_SLACK has no effect here"

// Check says what is wrong with a slack.
func Check(slack time.Duration) error {
	if slack < 0 || slack > most {
		return fmt.Errorf("must be 0 to %s, not %s", most, slack)
	}
	return nil
}
