package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardwire/cardwire/services/internal/natstest"
)

func TestTable(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	used := costs{
		CPU:    map[string]float64{"broker": 0.1, "webhooks": 0.1, "deliverer": 0.2, postgresName: 0.25, "receiver": 9, selfName: 9},
		Memory: map[string]int64{"broker": 30 * mb, "webhooks": 20 * mb, "deliverer": 20 * mb, postgresName: 70 * mb, "receiver": 900 * mb},
		WAL:    2567.4, StreamBytes: 667, BrokerWritten: 1038,
	}
	r := report{
		Date: time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC), Go: "go1.26.8", CPUs: 2, Settings: config{Sync: "always", Atomic: true},
		Results: []result{
			{Scenario: "one", Case: "flood", Run: 1, Received: 1000, Repeats: 2, PerSecond: 2500, OfPosts: 0.25, OfRows: 0.025, Bare: bare{Posts: 10000, Rows: 100000}, Costs: used},
			{
				Scenario: "latency", Case: "50/s", Run: 1, Received: 99, Lost: 1, PerSecond: 49.6, Latency: &quantiles{100, 1000, 2000, 3000, 4000, 600000000},
				Bare: bare{Posts: 10000, Rows: 100000, Latency: &quantiles{P50: 400, P99: 900}}, Costs: used,
			},
		},
		Figures: []figure{{"half-dead", 1, "p99, half dead over all well", 1.5}},
	}
	var out strings.Builder
	r.print(&out)
	// Columns are told apart by two spaces or more; their widths are tabwriter's.
	got := regexp.MustCompile(` {2,}`).ReplaceAllString(out.String(), "|")
	want := `2026-11-24, go1.26.8, 2 CPUs, sync_interval always, atomic batches

|scenario|case|run|deliveries|/s|of bare POSTs|of bare rows|p50 ms|p95|p99|p99.9|max|bare p50|p99|lost|repeats
|one|flood|1|1000|2500|0.25 of 10000/s|0.03 of 100000/s|0|2
|latency|50/s|1|99|50|1.0|2.0|3.0|4.0|600000.0|0.4|0.9|1|0

per 1,000 deliveries: seconds of processor; peak of resident memory in MB
|scenario|case|run|views|broker|webhooks|deliverer|postgres|receiver|bench|all but receiver, bench|WAL B/delivery|stream B|broker disk B
|one|flood|1|0.00; 0|0.10; 30|0.10; 20|0.20; 20|0.25; 70|9.00; 900|9.00; 0|0.65; 140|2567|667|1038
|latency|50/s|1|0.00; 0|0.10; 30|0.10; 20|0.20; 20|0.25; 70|9.00; 900|9.00; 0|0.65; 140|2567|667|1038

half-dead, run 1: p99, half dead over all well: 1.50
`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestSyncIntervalOfTheBrokersConfiguration(t *testing.T) {
	t.Parallel()
	conf, err := os.ReadFile(natstest.ConfigFile(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := brokerConf(conf, "always")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(string(conf), `sync_interval: "1s"`, `sync_interval: "always"`, 1); string(got) != want {
		t.Errorf("-want +got:\n%s", cmp.Diff(want, string(got)))
	}
	for _, wrong := range []string{"", "sync_interval: 1s\nsync_interval: 2s\n"} {
		if _, err := brokerConf([]byte(wrong), "always"); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

func TestCountsComeFromAFlagOrAreScaled(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ got, want int }{
		"a flag is not scaled":      {config{Scale: 0.01}.count(7, 100), 7},
		"the scenario's own is":     {config{Scale: 0.01}.count(0, 20_000), 200},
		"and never becomes nothing": {config{Scale: 0.01}.count(0, 20), 1},
	} {
		if row.got != row.want {
			t.Errorf("%s: %d, want %d", name, row.got, row.want)
		}
	}
}
