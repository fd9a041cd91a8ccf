//go:build !linux

package child

import "syscall"

// attr puts a child into a process group of its own, out of reach of the
// terminal's Ctrl-C. If this process is killed, the child goes on.
func attr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
