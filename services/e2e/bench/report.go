package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// rss is the resident memory of this process, receiver and publisher included,
// in bytes.
type rss struct {
	AfterLatency    int64 `json:"afterLatency"`
	AfterThroughput int64 `json:"afterThroughput"`
	Peak            int64 `json:"peak"`
}

// resident and peak read /proc; where there is none they are 0.
func resident() int64 { return status("VmRSS:") }
func peak() int64     { return status("VmHWM:") }

func status(field string) (bytes int64) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			var kb int64
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				return kb << 10
			}
		}
	}
	return 0
}

func median(runs []run) float64 {
	rates := make([]float64, len(runs))
	for i, r := range runs {
		rates[i] = r.PerSecond
	}
	slices.Sort(rates)
	return rates[len(rates)/2]
}

func (r report) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	ms := func(us int64) float64 { return float64(us) / 1000 }
	mb := func(b int64) float64 { return float64(b) / (1 << 20) }
	fmt.Fprintf(w, "%s, %s, %d CPUs, %d endpoint(s) per event, bodies of %d bytes\n\n", r.Date.Format("2006-01-02"), r.Go, r.CPUs, r.Config.Endpoints, r.Config.Bytes)
	for i, t := range r.Throughput {
		fmt.Fprintf(w, "throughput, run %d\t%.0f deliveries/s\t%d in %.1f s, %d attempts committed, %d repeats\n", i+1, t.PerSecond, t.Deliveries, t.Took.Seconds(), t.Attempts, t.Repeats)
	}
	fmt.Fprintf(w, "throughput, median\t%.0f deliveries/s\t%.2f of the bare limit: signed POSTs with nothing between, %.0f/s\n", r.Median, r.Median/r.Bare, r.Bare)
	l := r.Latency
	fmt.Fprintf(w, "publish to receipt at %d events/s\tp50 %.1f ms\tp95 %.1f, p99 %.1f, p99.9 %.1f, max %.1f ms of %d, %d repeats\n",
		l.Rate, ms(l.P50), ms(l.P95), ms(l.P99), ms(l.P999), ms(l.Max), l.Count, l.Repeats)
	fmt.Fprintf(w, "resident, all but PostgreSQL\t%.0f MB\tpeak %.0f MB, after the latency scenario %.0f MB\n", mb(r.RSS.AfterThroughput), mb(r.RSS.Peak), mb(r.RSS.AfterLatency))
}
