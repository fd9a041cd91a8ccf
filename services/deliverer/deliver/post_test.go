package deliver_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/internal/egress"
)

func TestTheTimingSaysWhatTookPlace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		tls  *tls.Config
	}{{"http", nil}, {"https", ca.serve(t, nil)}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := hostile(t, tt.tls, keepAlive(plainOK, nothingMore))
			client := loopback(t).Client(0)
			first := deliver.Post(t.Context(), client, try(r.url, 100), ample)
			again := deliver.Post(t.Context(), client, try(r.url, 100), ample)
			for _, got := range []deliver.Response{first, again} {
				if !got.Success || got.Timing.FirstByte == 0 || got.Timing.DNS != 0 || got.Timing.Class != egress.ClassAllowed {
					t.Errorf("%+v %+v", got.Outcome, got.Timing)
				}
				parts := got.Timing.DNS + got.Timing.Connect + got.Timing.TLS + got.Timing.FirstByte
				if parts > got.Took {
					t.Errorf("the parts are more than the whole: %+v in %s", got.Timing, got.Took)
				}
			}
			if first.Timing.Connect == 0 || (first.Timing.TLS != 0) != (tt.tls != nil) {
				t.Errorf("on a new connection: %+v", first.Timing)
			}
			if again.Timing.Connect != 0 || again.Timing.TLS != 0 {
				t.Errorf("on a kept connection: %+v", again.Timing)
			}
		})
	}
}

func TestTheTimingOfAFailureSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	refusing, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(refusing.Close)
	r := hostile(t, nil, thenHang(nothing))
	got := deliver.Post(t.Context(), refusing.Client(0), try(r.url, 100), ample)
	if !got.Refused() || got.Timing.Class != egress.ClassRefused || got.Timing.FirstByte != 0 {
		t.Errorf("refused: %+v %+v", got.Outcome, got.Timing)
	}
	got = deliver.Post(t.Context(), loopback(t).Client(0), try("http://localhost:1/", 100), ample)
	if got.Class != "connect" || got.Timing.DNS == 0 || got.Timing.Connect == 0 || got.Timing.FirstByte != 0 {
		t.Errorf("nobody listens: %+v %+v", got.Outcome, got.Timing)
	}
	got = deliver.Post(t.Context(), loopback(t).Client(0), try(r.url, 100), short)
	if got.Class != "timeout" || got.Timing.Connect == 0 || got.Timing.FirstByte != 0 || !strings.Contains(string(got.Sent), "Webhook-Id: ") {
		t.Errorf("no answer: %+v %+v, sent %q", got.Outcome, got.Timing, got.Sent)
	}
	got = deliver.Post(t.Context(), loopback(t).Client(0), deliver.Attempt{Fault: "The event is no longer kept."}, ample)
	if got.Class != "unsendable" || got.Timing != (egress.Timing{}) || got.Sent != nil {
		t.Errorf("cannot be made: %+v %+v, sent %q", got.Outcome, got.Timing, got.Sent)
	}
}

func TestRetryAfterIsReadOfTheAnswer(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{"429": "1m30s", "503": "1m30s", "500": "0s", "200": "0s"} {
		r := hostile(t, nil, answer("HTTP/1.1 "+code+" X\r\nRetry-After: 90\r\nContent-Length: 0\r\n\r\n"))
		if got := deliver.Post(t.Context(), loopback(t).Client(0), try(r.url, 100), ample); got.RetryAfter.String() != want {
			t.Errorf("%s: %s, want %s", code, got.RetryAfter, want)
		}
	}
}

// BenchmarkPost is one attempt over loopback, on a kept connection.
func BenchmarkPost(b *testing.B) {
	r := hostile(b, nil, keepAlive(plainOK, nothingMore))
	client := loopback(b).Client(0)
	a := try(r.url, 400)
	b.ReportAllocs()
	for b.Loop() {
		if got := deliver.Post(b.Context(), client, a, ample); !got.Success {
			b.Fatalf("got %+v", got.Outcome)
		}
	}
}
