package child

import "syscall"

// attr puts a child into a process group of its own, out of reach of the
// terminal's Ctrl-C, and has the kernel kill it when this process dies.
func attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
