package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A report is what bench writes as JSON.
type report struct {
	Date     time.Time `json:"date"`
	Go       string    `json:"go"`
	CPUs     int       `json:"cpus"`
	Settings config    `json:"settings"`
	Results  []result  `json:"results"`
	Figures  []figure  `json:"figures"`
}

// A result is what came of one case of a scenario.
type result struct {
	Scenario  string  `json:"scenario"`
	Case      string  `json:"case"`
	Run       int     `json:"run"`
	Bytes     int     `json:"bodyBytes"`
	Rate      int     `json:"eventsPerSecond,omitempty"` // 0: as fast as the stream takes them
	Expected  int     `json:"expectedDeliveries"`        // to the receivers that are measured
	Received  int     `json:"receivedDeliveries"`
	Lost      int     `json:"lost"` // not received within --patience or --limit
	Repeats   int     `json:"repeats"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"deliveriesPerSecond"`
	// Latency is from the time that an event was due to be published until its
	// first receipt; only where events are published at a rate.
	Latency *quantiles `json:"latency,omitempty"`
	Costs   costs      `json:"costs"`
	Bare    bare       `json:"bare"`
	// PerSecond as a share of the bare limits, unless events are published at a rate.
	OfPosts float64 `json:"ofBarePosts,omitempty"`
	OfRows  float64 `json:"ofBareRows,omitempty"`
}

// A figure is what a scenario says besides its results, such as how two of its
// cases compare.
type figure struct {
	Scenario string  `json:"scenario"`
	Run      int     `json:"run"`
	What     string  `json:"what"`
	Value    float64 `json:"value"`
}

// quantiles are in microseconds.
type quantiles struct {
	Count int64 `json:"count"`
	P50   int64 `json:"p50Microseconds"`
	P95   int64 `json:"p95Microseconds"`
	P99   int64 `json:"p99Microseconds"`
	P999  int64 `json:"p999Microseconds"`
	Max   int64 `json:"maxMicroseconds"`
}

// newQuantiles is of what a group received. What it has not received of want
// counts as the longest: what is missing must not make the rest look good.
func newQuantiles(t tally, want int) *quantiles {
	h := newHistogram()
	if t.Late != nil {
		h = hdrhistogram.Import(t.Late)
	}
	for range max(0, want-t.Distinct) {
		record(h, longest)
	}
	return &quantiles{
		Count: h.TotalCount(), P50: h.ValueAtQuantile(50), P95: h.ValueAtQuantile(95), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}

// ratio is a over b, and 0 if there is no b.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// columns are the processes in the table, in the order of the pipeline.
var columns = [...]string{"views", "broker", "webhooks", "deliverer", postgresName, "receiver", selfName}

func (r report) print(out io.Writer) {
	batches := ""
	if r.Settings.Atomic {
		batches = ", atomic batches"
	}
	fmt.Fprintf(out, "%s, %s, %d CPUs, sync_interval %s%s\n\n", r.Date.Format(time.DateOnly), r.Go, r.CPUs, r.Settings.Sync, batches)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "scenario\tcase\trun\tdeliveries\t/s\tof bare POSTs\tof bare rows\tp50 ms\tp95\tp99\tp99.9\tmax\tbare p50\tp99\tlost\trepeats\t")
	for _, r := range r.Results {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.0f\t%s\t%s\t%s\t%s\t%d\t%d\t\n", r.Scenario, r.Case, r.Run, r.Received, r.PerSecond,
			share(r.OfPosts, r.Bare.Posts), share(r.OfRows, r.Bare.Rows), r.Latency.cells(), r.Bare.Latency.short(), r.Lost, r.Repeats)
	}
	_ = w.Flush()
	fmt.Fprintln(out, "\nper 1,000 deliveries: seconds of processor; peak of resident memory in MB")
	fmt.Fprintln(w, "scenario\tcase\trun\t"+strings.Join(columns[:], "\t")+"\tall but receiver, bench\tWAL B/delivery\tstream B\tbroker disk B\t")
	for _, r := range r.Results {
		fmt.Fprintf(w, "%s\t%s\t%d\t", r.Scenario, r.Case, r.Run)
		var cpu float64
		var memory int64
		for _, name := range columns {
			fmt.Fprintf(w, "%.2f; %d\t", r.Costs.CPU[name], r.Costs.Memory[name]>>20)
			if name != "receiver" && name != selfName {
				cpu, memory = cpu+r.Costs.CPU[name], memory+r.Costs.Memory[name]
			}
		}
		fmt.Fprintf(w, "%.2f; %d\t%.0f\t%.0f\t%.0f\t\n", cpu, memory>>20, r.Costs.WAL, r.Costs.StreamBytes, r.Costs.BrokerWritten)
	}
	_ = w.Flush()
	if len(r.Figures) > 0 {
		fmt.Fprintln(out)
	}
	for _, f := range r.Figures {
		fmt.Fprintf(out, "%s, run %d: %s: %.2f\n", f.Scenario, f.Run, f.What, f.Value)
	}
}

// cells are the columns of a latency, in ms.
func (q *quantiles) cells() string {
	if q == nil {
		return "\t\t\t\t"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", ms(q.P50), ms(q.P95), ms(q.P99), ms(q.P999), ms(q.Max))
}

func (q *quantiles) short() string {
	if q == nil {
		return "\t"
	}
	return ms(q.P50) + "\t" + ms(q.P99)
}

func ms(us int64) string { return fmt.Sprintf("%.1f", float64(us)/1000) }

// share is a ratio to a bare limit, with the limit; empty where there is none.
func share(ratio, limit float64) string {
	if ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f of %.0f/s", ratio, limit)
}

// report is what the lab has measured.
func (l *lab) report(begun time.Time) report {
	return report{
		Date: begun.UTC(), Go: runtime.Version(), CPUs: runtime.NumCPU(), Settings: l.cfg,
		Results: l.results, Figures: l.figures,
	}
}

func (r report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
