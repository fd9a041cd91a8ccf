package deliver_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
)

// TestTwoHundredHangingAttemptsAreCheap runs alone, as it measures the heap. The
// receivers are in it too.
func TestTwoHundredHangingAttemptsAreCheap(t *testing.T) {
	const (
		attempts = 200
		most     = 64 << 20
	)
	hanging := make(chan struct{}, attempts)
	hang := func(text string) behavior {
		return func(r *rawReceiver, c net.Conn) {
			if r.read(bufio.NewReader(c)) {
				_, _ = fmt.Fprint(c, text)
			}
			hanging <- struct{}{}
			<-r.done
		}
	}
	// What net/http holds of each: nothing; as much of a header as it reads; all
	// that it reads of a header, in many fields.
	receivers := []*rawReceiver{
		hostile(t, nil, hang("")),
		hostile(t, nil, hang("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 31<<10))),
		hostile(t, nil, hang("HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 5000))),
		hostile(t, ca.serve(t, nil), hang("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 31<<10))),
		hostile(t, ca.serve(t, nil), func(r *rawReceiver, _ net.Conn) { hanging <- struct{}{}; <-r.done }), // in the handshake
	}
	client := loopback(t).Client(0)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	body := make([]byte, 200<<10) // an event's, of which there is one
	before := heap()
	ended := make(chan deliver.Response, attempts)
	for n := range attempts {
		a := try(receivers[n%len(receivers)].url, 0)
		a.Body = body
		go func() { ended <- deliver.Post(ctx, client, a, ample) }()
	}
	for range attempts {
		<-hanging
	}
	held := int64(heap()) - int64(before)
	t.Logf("%d attempts that hang hold %.1f MiB of heap", attempts, float64(held)/(1<<20))
	if held > most {
		t.Errorf("%d bytes, want at most %d", held, most)
	}
	stop()
	for range attempts {
		if got := <-ended; !got.Interrupted() {
			t.Errorf("got %+v", got.Outcome)
		}
	}

	// And with as much of a body as is kept.
	r := hostile(t, nil, answer("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", deliver.MaxResponseBody+1)))
	before = heap()
	for range attempts {
		go func() { ended <- deliver.Post(t.Context(), client, try(r.url, 100), ample) }()
	}
	var kept []deliver.Response
	for range attempts {
		kept = append(kept, <-ended)
	}
	held = int64(heap()) - int64(before)
	t.Logf("%d results with long bodies hold %.1f MiB of heap", attempts, float64(held)/(1<<20))
	if held > most {
		t.Errorf("%d bytes, want at most %d", held, most)
	}
	for _, got := range kept {
		if !got.Success || !got.Truncated {
			t.Errorf("got %+v, truncated %v", got.Outcome, got.Truncated)
		}
	}
}

// heap returns the bytes of the heap that are in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
