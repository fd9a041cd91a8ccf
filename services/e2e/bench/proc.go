package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of times in /proc, the same on all of Linux's
// architectures that Go knows.
const ticksPerSecond = 100

// A stat is what /proc/PID/stat tells.
type stat struct {
	parent   int
	own      time.Duration // processor time
	children time.Duration // of children that have ended and were waited for
}

// parseStat reads the text of /proc/PID/stat. The name, second and in
// parentheses, may hold anything.
func parseStat(text []byte) (s stat, err error) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("stat has %d fields after the name, want at least 15", len(fields))
	}
	var n [5]int64
	for i, at := range [...]int{1, 11, 12, 13, 14} { // ppid, utime, stime, cutime, cstime
		if n[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return stat{}, fmt.Errorf("stat: %w", err)
		}
	}
	tick := time.Second / ticksPerSecond
	return stat{parent: int(n[0]), own: time.Duration(n[1]+n[2]) * tick, children: time.Duration(n[3]+n[4]) * tick}, nil
}

// parseStatus reads a field of /proc/PID/status that is in kB. It is 0 if there is none.
func parseStatus(text []byte, field string) (bytes int64) {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			var kb int64
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				return kb << 10
			}
		}
	}
	return 0
}

// parseIO reads a field of /proc/PID/io.
func parseIO(text []byte, field string) (n int64) {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+": "); ok {
			n, _ = strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return n
}

// procFile is a file of a process. Where there is no /proc it is empty, and
// all that is read from it 0.
func procFile(pid int, name string) []byte {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + name)
	return text
}

// tree is the processor time of a process and its children, those that have
// ended included, and their ids, its own first.
func tree(pid int) (cpu time.Duration, pids []int) {
	root, err := parseStat(procFile(pid, "stat"))
	if err != nil {
		return 0, []int{pid}
	}
	cpu, pids = root.own+root.children, []int{pid}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return cpu, pids
	}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := parseStat(procFile(id, "stat")); err == nil && s.parent == pid {
			cpu, pids = cpu+s.own, append(pids, id)
		}
	}
	return cpu, pids
}

// resident is what processes that share memory have resident: each its own,
// and the largest of what they share.
func resident(pids []int) (bytes int64) {
	var shared int64
	for _, pid := range pids {
		text := procFile(pid, "status")
		bytes += parseStatus(text, "RssAnon")
		shared = max(shared, parseStatus(text, "RssShmem"))
	}
	return bytes + shared
}

// forgetPeak makes VmHWM count from now. Where that is refused it counts from
// the start of the process.
func forgetPeak(pid int) {
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/clear_refs", []byte("5"), 0)
}
