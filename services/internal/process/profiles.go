package process

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"runtime"

	"github.com/rs/zerolog"
)

// blockRate samples one wait, for a lock or a channel, in each 0.1 ms of them.
const blockRate = 100_000 // ns

// ServeProfiles serves the profiles of net/http/pprof until ctx ends. The
// address must be of loopback, as they tell what is in memory. The line
// "profiles served" has the port that was chosen if 0 was asked for.
func ServeProfiles(ctx context.Context, addr string, log zerolog.Logger) error {
	if a, err := netip.ParseAddrPort(addr); err != nil || !a.Addr().IsLoopback() {
		return fmt.Errorf("PPROF_ADDR: must be a loopback address such as 127.0.0.1:6060, not %s", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("PPROF_ADDR: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	runtime.SetBlockProfileRate(blockRate)
	log.Info().Str("address", l.Addr().String()).Msg("profiles served")
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(l) }() // until it is closed
	return nil
}
