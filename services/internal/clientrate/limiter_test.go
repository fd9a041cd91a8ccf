package clientrate

import (
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)

func limiter(t testing.TB, perSecond float64, burst, clients int) *Limiter {
	t.Helper()
	l, err := New(perSecond, burst, clients)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAllow(t *testing.T) {
	t.Parallel()
	l := limiter(t, 2, 3, 100)
	addr := netip.MustParseAddr("198.51.100.1")
	for i := range 3 {
		if _, ok := l.Allow(addr, start); !ok {
			t.Fatalf("request %d of a burst of 3 was refused", i+1)
		}
	}
	for range 5 { // refusals cost nothing
		if wait, ok := l.Allow(addr, start); ok || wait != 500*time.Millisecond {
			t.Fatalf("the request after the burst: %v, wait %v", ok, wait)
		}
	}
	if _, ok := l.Allow(addr, start.Add(499*time.Millisecond)); ok {
		t.Error("allowed before its time")
	}
	if _, ok := l.Allow(addr, start.Add(500*time.Millisecond)); !ok {
		t.Error("refused after the time that it was told")
	}
}

func TestWhoIsOneClient(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, a, b string
		same       bool
	}{
		{"the same IPv4 address", "198.51.100.1", "198.51.100.1", true},
		{"neighbours in IPv4", "198.51.100.1", "198.51.100.2", false},
		{"IPv4, mapped and plain", "::ffff:198.51.100.1", "198.51.100.1", true},
		{"one IPv6 /64", "2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true},
		{"neighbours among /64s", "2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"IPv6 with and without a zone", "fe80::1%eth0", "fe80::1", true},
		{"an IPv4 address and none", "198.51.100.1", "", false},
		{"none and none", "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := limiter(t, 1, 1, 100)
			a, _ := netip.ParseAddr(tt.a)
			b, _ := netip.ParseAddr(tt.b)
			if _, ok := l.Allow(a, start); !ok {
				t.Fatal("the first request was refused")
			}
			if _, ok := l.Allow(b, start); ok == tt.same {
				t.Errorf("second request allowed: %v", ok)
			}
		})
	}
}

// TestRateHolds: in no window does a client get more than burst plus rate times
// its length, and it gets in after the wait it was told.
func TestRateHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		perSecond := rapid.Float64Range(0.1, 1000).Draw(t, "per second")
		burst := rapid.IntRange(1, 50).Draw(t, "burst")
		l, err := New(perSecond, burst, 10)
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddr("198.51.100.1")
		now, allowed := start, 0
		for range rapid.IntRange(1, 200).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "pause")))
			wait, ok := l.Allow(addr, now)
			if !ok {
				if wait < 0 || wait.Seconds() > 1/perSecond+1e-6 {
					t.Fatalf("told to wait %v at %v/s", wait, perSecond)
				}
				now = now.Add(wait + time.Microsecond)
				if _, ok = l.Allow(addr, now); !ok {
					t.Fatalf("refused after waiting %v as told", wait)
				}
			}
			allowed++
			if most := float64(burst) + perSecond*now.Sub(start).Seconds() + 1e-3; float64(allowed) > most {
				t.Fatalf("%d requests in %v", allowed, now.Sub(start))
			}
		}
	})
}

func TestLimiterForgetsTheClientSeenLongestAgo(t *testing.T) {
	t.Parallel()
	l := limiter(t, 0.001, 1, 2)
	a, b, c := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.3")
	for _, addr := range []netip.Addr{a, b, c} { // c displaces a
		if _, ok := l.Allow(addr, start); !ok {
			t.Fatalf("the first request of %v was refused", addr)
		}
	}
	if n := l.clients.Len(); n != 2 {
		t.Errorf("remembers %d clients, want 2", n)
	}
	if _, ok := l.Allow(b, start); ok {
		t.Error("forgot a client that it has room for")
	}
}

func TestNewRefusesWhatLimitsNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		perSecond      float64
		burst, clients int
	}{{0, 1, 1}, {-1, 1, 1}, {math.NaN(), 1, 1}, {math.Inf(1), 1, 1}, {1, 0, 1}, {1, 1, 0}} {
		if _, err := New(tt.perSecond, tt.burst, tt.clients); err == nil {
			t.Errorf("accepted %+v", tt)
		}
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, 0.4, 1, 100)
		h := l.Handler([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
		}))
		get := func(forwarded string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = "10.0.0.1:1"
			r.Header.Set("X-Forwarded-For", forwarded)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		if w := get("198.51.100.1"); w.Code != http.StatusNoContent {
			t.Fatalf("first request: %d", w.Code)
		}
		w := get("198.51.100.1")
		var body struct{ Error string }
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "3" || body.Error != "too many requests: try again in 3 s" {
			t.Errorf("second request: %d, Retry-After %q, %q", w.Code, w.Header().Get("Retry-After"), body.Error)
		}
		if w := get("198.51.100.2"); w.Code != http.StatusNoContent {
			t.Errorf("another client behind the same proxy: %d", w.Code)
		}
		<-time.After(3 * time.Second) // virtual time
		if w := get("198.51.100.1"); w.Code != http.StatusNoContent {
			t.Errorf("after Retry-After: %d", w.Code)
		}
	})
}

func BenchmarkAllow(b *testing.B) {
	l := limiter(b, 1, 1, 1000)
	addr := netip.MustParseAddr("198.51.100.1")
	b.ReportAllocs()
	for b.Loop() {
		l.Allow(addr, start)
	}
}
