//go:build !linux

package main

import "errors"

func mountSmall(string, uint64) error { return errors.ErrUnsupported }

func resizeSmall(string, uint64) error { return errors.ErrUnsupported }

func unmount(string) error { return nil }
