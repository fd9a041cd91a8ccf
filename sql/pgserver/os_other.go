//go:build !linux

package pgserver

import (
	"os/exec"
	"strconv"
	"syscall"
)

// childAttr puts a child into its own process group, out of reach of the
// terminal's Ctrl-C. When this process is killed, the child goes on: the next
// start stops it.
func childAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: cred, Setpgid: true}
}

// commandLine returns the arguments of a process, empty when there is none.
func commandLine(pid int) string {
	out, _ := exec.Command("ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	return string(out)
}
