package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/cardwire/cardwire/services/e2e/internal/child"
)

// startTime bounds the start of a process on a busy machine, dependencies of it
// that are away included; stopTime bounds its stopping when told to.
const (
	startTime = 90 * time.Second
	stopTime  = 20 * time.Second
)

// A proc is a process that is killed and started again.
type proc struct {
	name    string
	dir     string
	command func() *exec.Cmd
	started func(*child.Child) error // waits until it is ready
	failed  func(error)              // hears if it ends by itself

	mu    sync.Mutex
	runs  int
	child *child.Child
}

// start starts it, and returns without waiting until it is ready.
func (p *proc) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runs++
	c, err := child.Start(p.dir, fmt.Sprintf("%s-%d", p.name, p.runs), p.command())
	if err != nil {
		return err
	}
	p.child = c
	go c.Watch(p.failed) // ends with the child
	return nil
}

func (p *proc) current() *child.Child {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.child
}

// ready waits until it is.
func (p *proc) ready() error { return p.started(p.current()) }

// startReady starts it and waits until it is ready.
func (p *proc) startReady() error {
	if err := p.start(); err != nil {
		return err
	}
	return p.ready()
}

// kill kills it, as nothing else can.
func (p *proc) kill() { p.current().Stop() }

// terminate tells it to stop, and says whether it did.
func (p *proc) terminate() error {
	if !p.current().Terminate(stopTime) {
		return fmt.Errorf("%s did not stop within %s of SIGTERM", p.name, stopTime)
	}
	return nil
}

func (p *proc) signal(sig os.Signal) { p.current().Signal(sig) }

// awaitLine is awaitLine of a child within startTime.
func awaitLine(c *child.Child, message string, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	return c.AwaitLine(ctx, message, out)
}
