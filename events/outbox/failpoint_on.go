//go:build failpoints

package outbox

import (
	"os"
	"syscall"
)

// failpoint is a place where the crash lab kills the process: see
// services/internal/failpoint.
func failpoint(name string) {
	if os.Getenv("FAILPOINT") == name {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it comes at once
	}
}
