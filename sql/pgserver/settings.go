package pgserver

import "strings"

// port only names the socket's file: .s.PGSQL.5432. Nothing listens on TCP.
const port = "5432"

// setting is one PostgreSQL setting and, beside it, why.
type setting struct{ name, value string }

// settings returns the command line that configures a server. The command line
// and not postgresql.conf, so that a new version of Cardwire changes clusters
// that exist.
func settings(socketDir string, cfg Config) []string {
	all := []setting{
		{"listen_addresses", ""}, // no TCP: trust authentication is for those only who can enter the socket's directory
		{"unix_socket_directories", `"` + strings.ReplaceAll(socketDir, `"`, `""`) + `"`}, // a list
		{"port", port},
		{"timezone", "UTC"}, // the same dates on every machine
		{"log_timezone", "UTC"},
		{"logging_collector", "off"}, // stderr is the log file
		{"log_line_prefix", "%m [%p] "},
		{"log_checkpoints", "off"},   // routine
		{"max_connections", "200"},   // three services in several replicas, and tests in parallel; 100 is PostgreSQL's default
		{"synchronous_commit", "on"}, // rows are the record: there before a message is acked. Without fsync a crash of the server alone still keeps them
		{"jit", "off"},               // compiling costs more than our short statements take
		{"random_page_cost", "1.1"},  // SSD: an index is not dearer than a scan
	}
	if cfg.Throwaway {
		all = append(all,
			setting{"fsync", "off"},
			setting{"full_page_writes", "off"},
			setting{"max_wal_size", "256MB"}, // it may lie in memory
		)
	} else {
		all = append(all,
			setting{"fsync", "on"},
			setting{"shared_buffers", "256MB"}, // deliveries and attempts of some hours; 128MB is the default
			setting{"max_wal_size", "2GB"},     // a checkpoint each few minutes under load, not each few seconds
			setting{"checkpoint_timeout", "15min"},
		)
	}
	var args []string
	for _, s := range all {
		args = append(args, "-c", s.name+"="+s.value)
	}
	for _, s := range cfg.Settings {
		args = append(args, "-c", s)
	}
	return args
}
