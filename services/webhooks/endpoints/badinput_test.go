package endpoints

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cardwire/cardwire/services/internal/webjson"
)

// body is a registration with one member replaced; value is JSON.
func body(member, value string) string {
	members := map[string]string{"url": `"https://example.com/"`, "events": `["card.viewed"]`}
	members[member] = value
	var parts []string
	for name, v := range members {
		parts = append(parts, fmt.Sprintf("%q:%s", name, v))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestBadBodies(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.MaxPerUser = 0
	long := strings.Repeat("a", 300)
	tests := []struct {
		name, body string
		status     int
		sentence   string // how it begins
	}{
		// The text.
		{"nothing", "", 400, "body: must be a JSON object, not empty"},
		{"white space", " \n", 400, "body: must be a JSON object, not empty"},
		{"no JSON", "url=https://example.com", 400, "body: must be JSON, which it is not near byte"},
		{"cut off", `{"url":"https://exam`, 400, "body: must be JSON, and ends too early"},
		{"cut off after a member", `{"url":"x"`, 400, "body: must be JSON, and ends too early"},
		{"comment", `{/* */}`, 400, "body: must be JSON, which it is not near byte"},
		{"trailing comma", `{"url":"x",}`, 400, "body: must be JSON, which it is not"},
		{"single quotes", `{'url':'x'}`, 400, "body: must be JSON, which it is not near byte"},
		{"byte order mark", "\ufeff{}", 400, "body: must be JSON, which it is not near byte"},
		{"NaN", `{"url":NaN}`, 400, "body: must be JSON, which it is not"},
		{"a second object", body("url", `"https://example.com"`) + "{}", 400, "body: must be one JSON object, with nothing after it"},
		{"trailing text", `{} x`, 400, "body: must be one JSON object, with nothing after it"},
		{"trailing bracket", `{}]`, 400, "body: must be one JSON object, with nothing after it"},
		{"trailing NUL", "{}\x00", 400, "body: must be one JSON object, with nothing after it"},
		{"broken UTF-8", "{\"url\":\"\xff\"}", 400, "body: must be UTF-8"},
		{"UTF-16", "\xff\xfe{\x00}\x00", 400, "body: must be UTF-8"},
		{"lone surrogate", body("description", `"\ud800"`), 400, "body: must be valid Unicode, without lone surrogates"},
		{"surrogates the wrong way round", body("description", `"\udc00\ud800"`), 400, "body: must be valid Unicode, without lone surrogates"},
		{"NUL in a value", body("description", `"a\u0000b"`), 400, "body: must not contain NUL characters"},
		{"NUL in a name", `{"u\u0000rl":1}`, 400, "body: must not contain NUL characters"},
		{"raw control character", "{\"url\":\"a\nb\"}", 400, "body: must be JSON, which it is not"},
		{"a member twice", `{"url":"https://example.com/","events":["card.viewed"],"url":"https://example.org/"}`, 400, `body: has the member "url" twice`},
		{"a member twice, spelled differently", `{"url":"https://example.com/","\u0075rl":"x"}`, 400, `body: has the member "url" twice`},
		{"a member twice, deeper", `{"x":[{"a":1,"a":2}]}`, 400, `body: has the member "a" twice`},
		{"too deep", body("x", strings.Repeat("[", 8)+strings.Repeat("]", 8)), 400, "body: must be nested at most 8 deep"},
		{"deep as can be", strings.Repeat(`{"a":`, 10_000), 400, "body: must be nested at most 8 deep"},
		{"over the limit", body("description", `"`+strings.Repeat("a", 64<<10)+`"`), 413, "body: must be at most 65536 bytes"},
		{"over every limit", strings.Repeat("a", webjson.MaxBodyBytes+1), 413, "body: must be at most 1048576 bytes"},
		{"1 MB of white space", strings.Repeat(" ", 1<<20), 413, "body: must be at most 65536 bytes"},

		// Its shape.
		{"null", "null", 400, "body: must be a JSON object"},
		{"an array", "[]", 400, "body: must be a JSON object"},
		{"a string", `"x"`, 400, "body: must be a JSON object"},
		{"a number", "1", 400, "body: must be a JSON object"},
		{"empty object", "{}", 400, "events: is required; url: is required"},
		{"no url", `{"events":["card.viewed"]}`, 400, "url: is required"},
		{"no events", `{"url":"https://example.com/"}`, 400, "events: is required"},
		{"unknown member", body("key", `"x"`), 400, "key: is not known here"},
		{"member in other letters", `{"URL":"https://example.com/","events":["card.viewed"]}`, 400, "url: is required; URL: is not known here"},
		{"unknown member of 300 characters", body(long, "1"), 400, long[:64] + "…: is not known here"},
		{"member of nobody", body("userId", `"00000000-0000-7000-8000-000000000002"`), 400, "userId: is not known here"},

		// url; the rules are egress's, and tested there.
		{"url is a number", body("url", "1"), 400, "url: must be a string"},
		{"url is null", body("url", "null"), 400, "url: must be a string"},
		{"url is an object", body("url", "{}"), 400, "url: must be a string"},
		{"url is empty", body("url", `""`), 400, "url: must have at least 1 character"},
		{"url too long", body("url", `"https://example.com/`+strings.Repeat("a", 2048)+`"`), 400, "url: must have at most 2048 characters"},
		{"url too long in bytes alone", body("url", `"https://example.com/`+strings.Repeat("ä", 2000)+`"`), 400, "url: "},
		{"url relative", body("url", `"/hook"`), 400, "url: "},
		{"url without host", body("url", `"https:///x"`), 400, "url: "},
		{"url of another scheme", body("url", `"ftp://example.com/"`), 400, "url: "},
		{"url of a script", body("url", `"javascript:alert(1)"`), 400, "url: "},
		{"url of a file", body("url", `"file:///etc/passwd"`), 400, "url: "},
		{"url by http", body("url", `"http://example.com/"`), 400, "url: must use https"},
		{"url with user info", body("url", `"https://user:password@example.com/"`), 400, "url: "},
		{"url with fragment", body("url", `"https://example.com/#x"`), 400, "url: "},
		{"url with space", body("url", `"https://example.com/a b"`), 400, "url: must not contain spaces"},
		{"url with newline", body("url", `"https://example.com/\r\nX: y"`), 400, "url: must not contain spaces or control characters"},
		{"url on another port", body("url", `"https://example.com:8443/"`), 400, "url: port 8443 is not allowed"},
		{"private address", body("url", `"https://10.1.2.3/"`), 400, "url: address is not allowed"},
		{"metadata address", body("url", `"http://169.254.169.254/latest/meta-data/"`), 400, "url: address is not allowed"},
		{"own address, mapped", body("url", `"https://[::ffff:10.0.0.1]/"`), 400, "url: address is not allowed"},
		{"address as a number", body("url", `"https://2130706433/"`), 400, "url: "},
		{"address in octal", body("url", `"https://0177.0.0.1/"`), 400, "url: "},

		// events
		{"events empty", body("events", "[]"), 400, "events: must have at least 1 entry"},
		{"events null", body("events", "null"), 400, "events: must be an array"},
		{"events a string", body("events", `"card.viewed"`), 400, "events: must be an array"},
		{"events an object", body("events", `{"0":"card.viewed"}`), 400, "events: must be an array"},
		{"an event that is a number", body("events", "[1]"), 400, "events[0]: must be a string"},
		{"an event that is null", body("events", "[null]"), 400, "events[0]: must be a string"},
		{"an event that is an array", body("events", `[["card.viewed"],["card.viewed"]]`), 400, "events[0]: must be a string; events[1]: must be a string"},
		{"an event that is an object", body("events", `[{},{}]`), 400, "events[0]: must be a string"},
		{"an event unknown", body("events", `["card.viewed","card.deleted"]`), 400, `events[1]: "card.deleted" is not known; known are card.viewed, contact.saved, endpoint.disabled, message.attempt.exhausted, message.attempt.recovered`},
		{"the event of tests", body("events", `["card.viewed","webhook.test"]`), 400, `events[1]: "webhook.test" can't be asked for: it is sent by POST /api/webhooks/{id}/test alone`},
		{"an event twice", body("events", `["card.viewed","contact.saved","card.viewed"]`), 400, `events[2]: "card.viewed" is there twice`},
		{"an event empty", body("events", `[""]`), 400, "events[0]: must be an event type"},
		{"an event in capitals", body("events", `["Card.Viewed"]`), 400, "events[0]: must be an event type"},
		{"an event with a wildcard within", body("events", `["card.*.x"]`), 400, "events[0]: must be an event type"},
		{"all events", body("events", `[">"]`), 400, "events[0]: must be an event type"},
		{"an event with a dot too many", body("events", `["card..viewed"]`), 400, "events[0]: must be an event type"},
		{"an event with a space", body("events", `["card.viewed "]`), 400, "events[0]: must be an event type"},
		{"an event too long", body("events", `["`+long+`"]`), 400, "events[0]: must have at most 128 characters"},
		{"21 events", body("events", `["card.viewed"`+strings.Repeat(`,"card.viewed"`, 20)+`]`), 400, "events: must have at most 20 entries"},
		{"1000 events", body("events", `["card.viewed"`+strings.Repeat(`,"card.viewed"`, 999)+`]`), 400, "events: must have at most 20 entries"},

		// description
		{"description a number", body("description", "1"), 400, "description: must be a string"},
		{"description too long", body("description", `"`+strings.Repeat("ä", 257)+`"`), 400, "description: must have at most 256 characters"},
		{"description of two lines", body("description", `"a\nb"`), 400, "description: must be one line without control characters"},
		{"description with an escape", body("description", `"\u001b[31m"`), 400, "description: must be one line without control characters"},

		// secret; its forms are in TestSecretsOfTheCallers.
		{"secret a number", body("secret", "1"), 400, "secret: must be a string"},
		{"secret empty", body("secret", `""`), 400, "secret: must have at least 38 characters"},
		{"secret too long", body("secret", `"whsec_`+strings.Repeat("A", 100)+`"`), 400, "secret: must have at most 94 characters"},
		{"secret of spaces", body("secret", `"`+strings.Repeat(" ", 50)+`"`), 400, "secret: must be whsec_"},

		// asymmetric
		{"asymmetric a string", body("asymmetric", `"true"`), 400, "asymmetric: must be true or false"},
		{"asymmetric a number", body("asymmetric", "1"), 400, "asymmetric: must be true or false"},

		// maxInFlight, rateLimit
		{"no attempt at once", body("maxInFlight", "0"), 400, "maxInFlight: must be at least 1"},
		{"minus one attempt at once", body("maxInFlight", "-1"), 400, "maxInFlight: must be at least 1"},
		{"101 attempts at once", body("maxInFlight", "101"), 400, "maxInFlight: must be at most 100"},
		{"half an attempt at once", body("maxInFlight", "1.5"), 400, "maxInFlight: must be a whole number"},
		{"attempts at once in words", body("maxInFlight", `"ten"`), 400, "maxInFlight: must be a whole number"},
		{"attempts at once without end", body("maxInFlight", "1e400"), 400, "body: "},
		{"a list of attempts at once", body("maxInFlight", "[1]"), 400, "maxInFlight: must be a whole number"},
		{"no attempt per second", body("rateLimit", "0"), 400, "rateLimit: must be at least 1"},
		{"1001 attempts per second", body("rateLimit", "1001"), 400, "rateLimit: must be at most 1000"},
		{"attempts per second beyond 32 bits", body("rateLimit", "4294967297"), 400, "rateLimit: must be at most 1000"},
		{"attempts per second with a point", body("rateLimit", "10.0"), 400, "body: is not valid"},
		{"attempts per second as a duration", body("rateLimit", `"1s"`), 400, "rateLimit: must be a whole number"},

		// retrySchedule
		{"retries a string", body("retrySchedule", `"30s"`), 400, "retrySchedule: must be an array"},
		{"a pause that is a number", body("retrySchedule", "[30]"), 400, "retrySchedule[0]: must be a string"},
		{"a pause that is null", body("retrySchedule", "[null]"), 400, "retrySchedule[0]: must be a string"},
		{"a pause without unit", body("retrySchedule", `["30"]`), 400, "retrySchedule[0]: must be a duration from 1s to 24h"},
		{"a pause that is empty", body("retrySchedule", `[""]`), 400, "retrySchedule[0]: must be a duration from 1s to 24h"},
		{"no pause", body("retrySchedule", `["30s","0s"]`), 400, "retrySchedule[1]: must be a duration from 1s to 24h"},
		{"a negative pause", body("retrySchedule", `["-30s"]`), 400, "retrySchedule[0]: must be a duration from 1s to 24h"},
		{"a pause below a second", body("retrySchedule", `["999ms"]`), 400, "retrySchedule[0]: must be a duration from 1s to 24h"},
		{"a pause above a day", body("retrySchedule", `["24h1ms"]`), 400, "retrySchedule[0]: must be a duration from 1s to 24h"},
		{"a pause of days", body("retrySchedule", `["1d"]`), 400, "retrySchedule[0]: must be a duration from 1s to 24h"},
		{"a pause beyond any", body("retrySchedule", `["9999999999h"]`), 400, "retrySchedule[0]: must be a duration from 1s to 24h"},
		{"a pause between milliseconds", body("retrySchedule", `["1.0005s"]`), 400, "retrySchedule[0]: must be a duration from 1s to 24h in whole milliseconds"},
		{"a pause of many characters", body("retrySchedule", `["`+strings.Repeat("1", 100)+`s"]`), 400, "retrySchedule[0]: must have at most 32 characters"},
		{"21 retries", body("retrySchedule", `["1s"`+strings.Repeat(`,"1s"`, 20)+`]`), 400, "retrySchedule: must have at most 20 entries"},
		{"retries for more than a week", body("retrySchedule", `["24h","24h","24h","24h","24h","24h","24h","1s"]`), 400, "retrySchedule: must be at most 168h in all"},
		{"retries for ages", body("retrySchedule", `["24h"`+strings.Repeat(`,"24h"`, 19)+`]`), 400, "retrySchedule: must be at most 168h in all"},

		// What is fine.
		{"a week of retries", body("retrySchedule", `["24h","24h","24h","24h","24h","24h","24h"]`), 201, ""},
		{"20 retries", body("retrySchedule", `["1s"`+strings.Repeat(`,"1s"`, 19)+`]`), 201, ""},
		{"no retries", body("retrySchedule", `[]`), 201, ""},
		{"retries null", body("retrySchedule", `null`), 201, ""},
		{"the least", body("maxInFlight", "1"), 201, ""},
		{"the most", body("rateLimit", "1000"), 201, ""},
		{"limit null", body("rateLimit", "null"), 201, ""},
		{"operational events", body("events", `["endpoint.disabled","message.attempt.exhausted","message.attempt.recovered"]`), 201, ""},
		{"description null is none", body("description", "null"), 201, ""},
		{"description as long as may be", body("description", `"`+strings.Repeat("ä", 256)+`"`), 201, ""},
		{"description beyond the BMP", body("description", `"\ud83d\ude00 😀"`), 201, ""},
		{"an allowed address by http on any port", body("url", `"http://127.0.0.1:9999/hook?a=b"`), 201, ""},
		{"a prefix", body("events", `["card.*"]`), 201, ""},
		{"everything", body("events", `["*"]`), 201, ""},
		{"everything and what that leaves out", body("events", `["*","endpoint.*","message.attempt.*"]`), 201, ""},
		{"no filter", body("filter", `null`), 201, ""},
		{"a filter", body("filter", `{"source": ["qr", "nfc"], "viewerId": {"exists": true}, "a.b": null, "amount": {"gte": 1, "lt": 2.5}}`), 201, ""},
		{"both events", body("events", `["card.viewed","contact.saved"]`), 201, ""},
		{"white space around", " \r\n" + body("description", `""`) + "\n", 201, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := s.call(t, alice, "POST", "/api/webhooks", tt.body)
			if a.status != tt.status {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if tt.status == http.StatusCreated {
				return
			}
			checkProblem(t, a)
			if got := a.sentence(t); !strings.HasPrefix(got, tt.sentence) {
				t.Errorf("says %q, want %q", got, tt.sentence)
			}
		})
	}
}

// checkProblem holds an answer to what every error has.
func checkProblem(t testing.TB, a answer) {
	t.Helper()
	p := decode[Problem](t, a)
	if a.header.Get("Content-Type") != "application/problem+json" || p.Status != a.status ||
		p.Title != http.StatusText(a.status) || p.Detail != p.Message || p.Message == "" || len(p.Message) > 8192 {
		t.Errorf("not our problem: %d %v %s", a.status, a.header, a.body)
	}
	if a.status != 503 && a.status != 429 && a.header.Get("Retry-After") != "" {
		t.Errorf("%d with Retry-After", a.status)
	}
}

func TestBadQueries(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	base := "/api/webhooks/" + s.create(t, alice).ID.String()
	audit := "GET /api/audit-log"
	list, log, rotate := "GET /api/webhooks", "GET "+base+"/deliveries", "PATCH "+base+"/rotate-secret"
	tests := []struct{ name, operation, query, sentence string }{
		{"limit 0", list, "limit=0", "limit: must be at least 1"},
		{"limit negative", list, "limit=-1", "limit: must be at least 1"},
		{"limit 101", list, "limit=101", "limit: must be at most 100"},
		{"limit huge", list, "limit=99999999999999999999", "limit: must be a whole number"},
		{"limit text", list, "limit=many", "limit: must be a whole number"},
		{"limit a fraction", list, "limit=1.5", "limit: must be a whole number"},
		{"limit in hex", list, "limit=0x10", "limit: must be a whole number"},
		{"limit NUL", list, "limit=%00", "limit: must be a whole number"},
		{"limit two at once", list, "limit=1&limit=2", `query: has "limit" more than once`},
		{"unknown parameter", list, "cursor=x", "cursor: is not known here"},
		{"unknown parameter, bounded", list, strings.Repeat("x", 100) + "=1", strings.Repeat("x", 64) + "…: is not known here"},
		{"broken escape", list, "limit=%zz", "query: must be names and values"},
		{"semicolon", list, "limit=1;page=2", "query: must be names and values"},
		{"page 0", log, "page=0", "page: must be at least 1"},
		{"page -1", log, "page=-1", "page: must be at least 1"},
		{"page beyond the deepest", log, "page=1001", "page: must be at most 1000"},
		{"page huge", log, "page=9223372036854775808", "page: must be a whole number"},
		{"page text", log, "page=last", "page: must be a whole number"},
		{"limit of the log", log, "limit=1000", "limit: must be at most 100"},
		{"both wrong", log, "page=0&limit=0", "page: must be at least 1; limit: must be at least 1"},
		{"audit: limit 0", audit, "limit=0", "limit: must be at least 1"},
		{"audit: limit 101", audit, "limit=101", "limit: must be at most 100"},
		{"audit: an endpoint that is none", audit, "endpointId=x", "endpointId: must be a UUID of 36 characters"},
		{"audit: two endpoints", audit, "endpointId=a&endpointId=b", `query: has "endpointId" more than once`},
		{"audit: a cursor that is none", audit, "cursor=x", "cursor: must be the nextCursor of a page"},
		{"audit: a cursor that could be one", audit, "cursor=" + strings.Repeat("A", 67), "cursor: must be the nextCursor of a page"},
		{"audit: a cursor too long", audit, "cursor=" + strings.Repeat("A", 129), "cursor: must have at most 128 characters"},
		{"audit: a page", audit, "page=2", "page: is not known here"},
		{"event types: a page", "GET /api/event-types", "page=2", "page: is not known here"},
		{"overlap text", rotate, "overlap=soon", "overlap: must be a duration from 0s to 168h"},
		{"overlap without unit", rotate, "overlap=5", "overlap: must be a duration from 0s to 168h"},
		{"overlap negative", rotate, "overlap=-1s", "overlap: must be a duration from 0s to 168h"},
		{"overlap too long", rotate, "overlap=168h1ns", "overlap: must be a duration from 0s to 168h"},
		{"overlap beyond any", rotate, "overlap=9999999999h", "overlap: must be a duration from 0s to 168h"},
		{"overlap of many characters", rotate, "overlap=" + strings.Repeat("1", 100), "overlap: must have at most 32 characters"},
		{"overlap misspelled", rotate, "overlp=0s", "overlp: is not known here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			method, path, _ := strings.Cut(tt.operation, " ")
			a := s.call(t, alice, method, path+"?"+tt.query, nil)
			if a.status != http.StatusBadRequest {
				t.Fatalf("%d %s", a.status, a.body)
			}
			checkProblem(t, a)
			if got := a.sentence(t); !strings.HasPrefix(got, tt.sentence) {
				t.Errorf("says %q, want %q", got, tt.sentence)
			}
		})
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for contentType, status := range map[string]int{
		"":                                  400, // taken as JSON, which the body is but for its members
		"application/json":                  400,
		"application/json; charset=utf-8":   400,
		"APPLICATION/JSON":                  400,
		"application/x-www-form-urlencoded": 415,
		"text/plain":                        415,
		"multipart/form-data; boundary=x":   415,
		"json":                              415,
		"application/vnd.x+json":            415,
		";":                                 415,
	} {
		r := httptest.NewRequest("POST", "/api/webhooks", strings.NewReader("{}"))
		r.Header.Set("Authorization", "Bearer "+token(t, alice))
		r.Header["Content-Type"] = []string{contentType}
		r.Header.Set("Accept", "json")
		a := s.send(r)
		checkProblem(t, a)
		if a.status != status {
			t.Errorf("%q: %d %s", contentType, a.status, a.body)
		}
	}
}

// FuzzCheckJSON: nothing panics, what passes is an object, and no sentence is
// long or repeats more than a bounded name.
func FuzzCheckJSON(f *testing.F) {
	f.Add([]byte(`{"url":"https://example.com/","events":["card.viewed"]}`))
	f.Add([]byte(`{"a":{"b":[1,2,{"c":null}]},"a":1e999}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		err := checkJSON(body)
		if err == nil {
			if trimmed := strings.TrimSpace(string(body)); trimmed[0] != '{' || trimmed[len(trimmed)-1] != '}' {
				t.Fatalf("took %q", body)
			}
			return
		}
		if s := err.Error(); !strings.HasPrefix(s, "body: ") || utf8.RuneCountInString(s) > 1000 {
			t.Fatalf("says %q", s)
		}
	})
}
