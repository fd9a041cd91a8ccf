package main

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       stat
		fails      bool
	}{
		{
			"times are in hundredths of a second", "42 (postgres) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 20 5 20 0 1 0 99\n",
			stat{parent: 7, own: 2 * time.Second, children: 250 * time.Millisecond},
			false,
		},
		{
			"the name may hold parentheses, spaces and numbers", "42 (a) S 9 (b c) R 7 42 42 0 -1 4194560 1 2 3 4 1 0 0 0 20 0\n",
			stat{parent: 7, own: 10 * time.Millisecond},
			false,
		},
		{"nothing, as of a process that is gone", "", stat{}, true},
		{"cut off", "42 (postgres) S 7 42", stat{}, true},
		{"no numbers", "42 (postgres) S 7 x x x x x x x x x x x x x x x x\n", stat{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseStat([]byte(tt.text))
			if got != tt.want && !tt.fails || (err != nil) != tt.fails {
				t.Errorf("%+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestFieldsOfProc(t *testing.T) {
	t.Parallel()
	status := []byte("Name:\tVmHWM:\nVmPeak:\t  900 kB\nVmHWM:\t   300 kB\nRssAnon:\t     12 kB\n")
	io := []byte("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n")
	for name, row := range map[string]struct{ got, want int64 }{
		"memory is in kB":                   {parseStatus(status, "VmHWM"), 300 << 10},
		"a field that is not there":         {parseStatus(status, "RssShmem"), 0},
		"a process that is gone":            {parseStatus(nil, "VmHWM"), 0},
		"bytes are bytes":                   {parseIO(io, "write_bytes"), 4096},
		"a field whose end is a field's":    {parseIO([]byte("cancelled_write_bytes: 7\n"), "write_bytes"), 0},
		"of a process that may not be read": {parseIO(nil, "write_bytes"), 0},
	} {
		if row.got != row.want {
			t.Errorf("%s: %d, want %d", name, row.got, row.want)
		}
	}
}

func TestTreeFindsChildren(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return // nothing to read on this system, and the bench shows 0
	}
	cmd := exec.Command("cat") // until its input ends
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, pids := tree(os.Getpid())
	input.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if pids[0] != os.Getpid() || !slices.Contains(pids, cmd.Process.Pid) {
		t.Errorf("%v, want this process first and its child %d", pids, cmd.Process.Pid)
	}
}
