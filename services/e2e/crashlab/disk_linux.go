package main

import (
	"fmt"
	"syscall"
)

// mountSmall mounts an empty file system of a size in bytes. It needs the rights of root.
func mountSmall(dir string, size int) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
}

func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
