package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
)

// Names of the processes that are no children of a stack.
const (
	postgresName = "postgres"
	selfName     = "bench" // publisher of the load
)

// A reading is what the processes have used up to a moment.
type reading struct {
	cpu      map[string]time.Duration
	wal      int64 // bytes
	events   int64 // bytes that EVENTS holds
	messages uint64
	disk     int64 // bytes that the broker has written to its disk
}

// Costs are what a case took. Deliveries are all that the case made, also to
// receivers that are dead.
type costs struct {
	CPU map[string]float64 `json:"cpuSecondsPer1000Deliveries"` // by process
	// Memory is the most that each process had resident, in bytes; of
	// PostgreSQL, the most that its processes were seen to have together.
	Memory        map[string]int64 `json:"peakMemoryBytes"`
	WAL           float64          `json:"walBytesPerDelivery"`
	StreamBytes   float64          `json:"eventStreamBytesPerDelivery"`
	Messages      float64          `json:"streamMessagesPerDelivery"` // of both streams
	BrokerWritten float64          `json:"brokerDiskBytesPerDelivery"`
}

// A meter measures what a case takes.
type meter struct {
	stack  *stack
	before reading
	peak   int64 // of PostgreSQL; the watcher's until watched is closed
	done   chan struct{}
	exited chan struct{}
}

// memoryInterval is the pause between two looks at PostgreSQL's memory.
const memoryInterval = 500 * time.Millisecond

// meter begins to measure, right after a checkpoint. Call costs to end.
func (s *stack) meter(ctx context.Context) (*meter, error) {
	if _, err := s.pool.Exec(ctx, `CHECKPOINT`); err != nil {
		return nil, fmt.Errorf("begin with a checkpoint: %w", err)
	}
	before, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range s.children {
		forgetPeak(c.PID)
	}
	forgetPeak(os.Getpid())
	m := &meter{stack: s, before: before, done: make(chan struct{}), exited: make(chan struct{})}
	go m.watchPostgres()
	return m, nil
}

func (m *meter) watchPostgres() {
	defer close(m.exited)
	for {
		_, pids := tree(m.stack.postgres.PID())
		m.peak = max(m.peak, resident(pids))
		select {
		case <-m.done:
			return
		case <-time.After(memoryInterval):
		}
	}
}

// stop ends the watching; a second call does nothing.
func (m *meter) stop() {
	select {
	case <-m.done:
	default:
		close(m.done)
	}
	<-m.exited
}

// costs ends the measuring.
func (m *meter) costs(ctx context.Context, deliveries int) (costs, error) {
	m.stop()
	after, err := m.stack.read(ctx)
	if err != nil {
		return costs{}, err
	}
	n := max(1, float64(deliveries))
	c := costs{
		CPU: make(map[string]float64), Memory: map[string]int64{postgresName: m.peak},
		WAL:           float64(after.wal-m.before.wal) / n,
		StreamBytes:   float64(after.events-m.before.events) / n,
		Messages:      float64(after.messages-m.before.messages) / n,
		BrokerWritten: float64(after.disk-m.before.disk) / n,
	}
	for name, cpu := range after.cpu {
		c.CPU[name] = (cpu - m.before.cpu[name]).Seconds() / n * 1000
	}
	for name, process := range m.stack.children {
		c.Memory[name] = parseStatus(procFile(process.PID, "status"), "VmHWM")
	}
	c.Memory[selfName] = parseStatus(procFile(os.Getpid(), "status"), "VmHWM")
	return c, nil
}

func (s *stack) read(ctx context.Context) (r reading, err error) {
	r.cpu = make(map[string]time.Duration)
	for name, c := range s.children {
		r.cpu[name], _ = tree(c.PID)
	}
	r.cpu[postgresName], _ = tree(s.postgres.PID())
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return r, fmt.Errorf("read usage: %w", err)
	}
	r.cpu[selfName] = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	r.disk = parseIO(procFile(s.children["broker"].PID, "io"), "write_bytes")
	err = s.pool.QueryRow(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint`).Scan(&r.wal)
	if err != nil {
		return r, fmt.Errorf("read position of the WAL: %w", err)
	}
	for _, name := range [...]string{streams.Events, streams.Deliveries} {
		info, err := streamInfo(ctx, s.js, name)
		if err != nil {
			return r, err
		}
		r.messages += info.State.LastSeq
		if name == streams.Events {
			r.events = int64(info.State.Bytes)
		}
	}
	return r, nil
}

func streamInfo(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", name, err)
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", name, err)
	}
	return info, nil
}
