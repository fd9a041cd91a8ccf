package pgserver

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// childAttr puts a child into its own process group, out of reach of the
// terminal's Ctrl-C, and has the kernel end it when this process dies. SIGQUIT
// is PostgreSQL's immediate shutdown.
func childAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: cred, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}

// commandLine returns the arguments of a process, empty when there is none.
func commandLine(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return strings.ReplaceAll(string(b), "\x00", " ")
}
