package receiver

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what is printed, in characters.
const (
	maxID   = 36
	maxType = 40
	maxData = 160
)

// describe is what is printed of a POST: type, webhook-id and data of the event.
// Anybody can send anything: what is printed is one line of bounded length, and
// nothing in it moves a terminal's cursor.
func describe(id string, body []byte) string {
	var event struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	data := "(no JSON)"
	if json.Unmarshal(body, &event) == nil {
		var compact bytes.Buffer
		_ = json.Compact(&compact, event.Data) // absent: stays empty
		data = compact.String()
	}
	return plain(orDash(event.Type), maxType) + "  " + plain(orDash(id), maxID) + "  " + plain(data, maxData)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plain replaces what can't be printed, and cuts s to limit characters.
func plain(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	n := 0
	for i := range s {
		if n == limit {
			return s[:i] + "…"
		}
		n++
	}
	return s
}
