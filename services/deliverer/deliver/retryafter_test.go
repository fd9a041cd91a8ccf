package deliver

import (
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		value string
		want  time.Duration
	}{
		{"absent", "", 0},
		{"seconds", "120", 2 * time.Minute},
		{"no seconds", "0", 0},
		{"leading zeros", "0060", time.Minute},
		{"as long as it may be", "86400", 24 * time.Hour},
		{"longer than a day: a day", "86401", 24 * time.Hour},
		{"more digits than 64 bits hold: a day", "99999999999999999999999999", 24 * time.Hour},
		{"negative: unusable", "-1", 0},
		{"signed: unusable", "+1", 0},
		{"a fraction: unusable", "1.5", 0},
		{"an exponent: unusable", "1e3", 0},
		{"a unit: unusable", "5s", 0},
		{"two values: unusable", "5, 6", 0},
		{"digits that are not ASCII: unusable", "１２", 0},
		{"a word: unusable", "soon", 0},
		{"a date", "Sat, 01 Aug 2026 12:05:00 GMT", 5 * time.Minute},
		{"a date of RFC 850", "Saturday, 01-Aug-26 12:05:00 GMT", 5 * time.Minute},
		{"a date of asctime", "Sat Aug  1 12:05:00 2026", 5 * time.Minute},
		{"a date that is past", "Sat, 01 Aug 2026 11:00:00 GMT", 0},
		{"this moment", "Sat, 01 Aug 2026 12:00:00 GMT", 0},
		{"a date in the next century: a day", "Sat, 01 Aug 2126 12:00:00 GMT", 24 * time.Hour},
		{"a date too far for a duration: a day", "Sat, 01 Aug 9999 12:00:00 GMT", 24 * time.Hour},
		{"a date before all others", "Mon, 01 Jan 0001 00:00:00 GMT", 0},
		{"a date of another form: unusable", "2026-08-01T12:05:00Z", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := retryAfter(tt.value, now); got != tt.want {
				t.Errorf("%q: %s, want %s", tt.value, got, tt.want)
			}
		})
	}
}

// FuzzRetryAfter: whatever a receiver sends, the wait is 0 to 24 h, and only digits and dates mean anything.
func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "0", "120", "-1", "99999999999999999999", "Sat, 01 Aug 2026 12:05:00 GMT", "Sat Aug  1 12:05:00 2026", "Sat, 01 Aug 9999 12:00:00 GMT"} {
		f.Add(value)
	}
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		got := retryAfter(value, now)
		if got < 0 || got > maxRetryAfter {
			t.Errorf("%q: %s", value, got)
		}
		if got > 0 && len(value) > 0 && (value[0] < '0' || value[0] > '9') && len(value) < 20 {
			t.Errorf("%q is neither a number nor a date, and means %s", value, got)
		}
	})
}
