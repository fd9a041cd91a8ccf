// Command bench measures the pipeline: deliveries per second, the time from
// publish to receipt, and memory. It starts what it needs, on loopback: a
// PostgreSQL with durable settings, and in this process the broker, fan-out,
// deliverer, sweeper and a receiver.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/alecthomas/kong"

	"github.com/cardwire/cardwire/services/internal/process"
)

type config struct {
	Events    int           `default:"20000" help:"Events of the throughput scenario, published as fast as the stream takes them."`
	Rate      int           `default:"100" help:"Events per second of the latency scenario, at fixed times."`
	Seconds   int           `default:"20" help:"Length of the latency scenario."`
	Endpoints int           `default:"1" help:"Endpoints that get each event."`
	Bytes     int           `default:"512" help:"Size of an event's body (200 to 262144)."`
	Runs      int           `default:"3" help:"Runs of the throughput scenario; the median counts."`
	NATSConf  string        `default:"nats.conf" help:"Configuration of the broker."`
	JSON      bool          `help:"Print JSON instead of a table."`
	Limit     time.Duration `default:"5m" help:"Give up a scenario that takes longer."`
}

// A report is what bench prints.
type report struct {
	Date       time.Time `json:"date"`
	Go         string    `json:"go"`
	CPUs       int       `json:"cpus"`
	Config     config    `json:"config"`
	Throughput []run     `json:"throughput"`
	Latency    quantiles `json:"latency"`
	RSS        rss       `json:"memory"`
	Median     float64   `json:"deliveriesPerSecond"`
	Bare       float64   `json:"barePostsPerSecond"`
}

func main() {
	var cfg config
	kong.Parse(&cfg, kong.Name("bench"), kong.Description("Measure the pipeline on this machine."))
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	process.LimitMemory()
	if err := bench(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		cancel()
		os.Exit(1)
	}
}

func bench(ctx context.Context, cfg config) error {
	if cfg.Bytes < minBytes || cfg.Bytes > 262144 || cfg.Events < 1 || cfg.Rate < 1 || cfg.Seconds < 1 || cfg.Endpoints < 1 || cfg.Runs < 1 {
		return fmt.Errorf("--bytes must be %d to 262144, and counts at least 1", minBytes)
	}
	r := report{Date: time.Now().UTC(), Go: runtime.Version(), CPUs: runtime.NumCPU(), Config: cfg}
	s, err := start(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.stop()
	if r.Latency, err = s.latency(ctx); err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	r.RSS.AfterLatency = resident()
	for range cfg.Runs {
		one, err := s.throughput(ctx)
		if err != nil {
			return fmt.Errorf("throughput: %w", err)
		}
		r.Throughput = append(r.Throughput, one)
	}
	r.RSS.AfterThroughput, r.RSS.Peak = resident(), peak()
	r.Median = median(r.Throughput)
	if r.Bare, err = s.bare(ctx); err != nil {
		return fmt.Errorf("bare posts: %w", err)
	}
	if cfg.JSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	r.print(os.Stdout)
	return nil
}
