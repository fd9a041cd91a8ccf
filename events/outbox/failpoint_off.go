//go:build !failpoints

package outbox

// failpoint is a place where the crash lab kills the process: see
// services/internal/failpoint. Here it is compiled away.
func failpoint(string) {}
