package deliver

import (
	"net/http"
	"strings"
	"time"
)

// maxRetryAfter is the longest wait that a receiver may ask for: who is away for
// longer is asked again once a day.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads the value of a Retry-After header (RFC 9110, 10.2.3): a number
// of seconds, or an HTTP date, which is held against our clock. The result is 0
// to 24 h, and 0 for what is empty, past, or neither.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if digits := strings.Trim(value, "0123456789"); digits == "" {
		const most = int(maxRetryAfter / time.Second)
		n := 0
		for _, c := range []byte(value) {
			n = min(n*10+int(c-'0'), most) // whatever its length, it does not overflow
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), maxRetryAfter))
}
