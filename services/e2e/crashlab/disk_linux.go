package main

import (
	"fmt"
	"syscall"
)

// mountSmall mounts an empty file system of a size in bytes. It needs the rights of root.
func mountSmall(dir string, size uint64) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
}

// resizeSmall gives it another size. It is an error if more is in use.
func resizeSmall(dir string, size uint64) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
		return fmt.Errorf("resize disk: %w", err)
	}
	return nil
}

func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
