//go:build !linux

package main

import "syscall"

// childAttr puts a child into a process group of its own, out of reach of the
// terminal's Ctrl-C. If this process is killed, the child goes on.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
