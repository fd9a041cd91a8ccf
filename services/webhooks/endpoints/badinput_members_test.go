package endpoints

import (
	"strings"
	"testing"
	"time"
)

// TestBadMembers sends each member of each body in types and values that it must
// not have. TestBadBodies has more of the kind.
func TestBadMembers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	s.deliver(t, id, 1) // makes today's partitions
	const (
		create = "POST /api/webhooks"
		word   = "must be an event type: one to five words of a-z, 0-9 and _, joined by dots; or such words and .* for all types that begin so; or * for all"
	)
	var rows []refusal
	creation := func(name, member, value, sentence string) {
		rows = append(rows, refusal{name, create, body(member, value), 400, sentence})
	}
	for _, value := range []string{"true", "1", "{}", `"card.viewed"`, "null", `{"0":"card.viewed","length":1}`} {
		creation("events that are "+value+" are no array", "events", value, "events: must be an array")
	}
	for _, value := range []string{"true", "1", "[]", "{}", "null", `["card.viewed"]`} {
		creation("an event that is "+value+" is no string", "events", `["card.viewed",`+value+`]`, "events[1]: must be a string")
	}
	for _, value := range []string{"true", "1", "[]", "{}", `["x"]`} {
		creation("a description that is "+value+" is no string", "description", value, "description: must be a string")
	}
	creation("no events are too few", "events", `[]`, "events: must have at least 1 entry")
	creation("a thousand events are too many", "events", `["card.viewed"`+strings.Repeat(`,"contact.saved"`, 999)+`]`, "events: must have at most 20 entries")
	creation("twenty-one events that are unknown are too many", "events", `["a1"`+strings.Repeat(`,"a2"`, 20)+`]`, "events: must have at most 20 entries")
	creation("an event twice is once too many", "events", `["card.viewed","card.viewed"]`, `events[1]: "card.viewed" is there twice`)
	creation("an event twice, once escaped, is once too many", "events", `["card.viewed","c\u0061rd.viewed"]`, `events[1]: "card.viewed" is there twice`)
	creation("an event that nobody knows is refused", "events", `["card.deleted"]`, `events[0]: "card.deleted" is not known…`)
	creation("the type of test events can't be asked for", "events", `["webhook.test"]`, `events[0]: "webhook.test" can't be asked for: it is sent by POST /api/webhooks/{id}/test alone`)
	creation("a prefix that no known type has is refused", "events", `["invoice.*"]`, `events[0]: "invoice.*" matches no known type; GET /api/event-types lists those`)
	creation("the type of test events can't be asked for by its prefix", "events", `["webhook.*"]`, `events[0]: "webhook.*" matches no known type; GET /api/event-types lists those`)
	creation("a type alone is no prefix", "events", `["card.viewed.*"]`, `events[0]: "card.viewed.*" matches no known type; GET /api/event-types lists those`)
	creation("a pattern twice is once too many", "events", `["*","*"]`, `events[1]: "*" is there twice`)
	for value, sentence := range map[string]string{
		`"x"`: "filter: must be an object", `[]`: "filter: must be an object", `1`: "filter: must be an object", `true`: "filter: must be an object",
		`{}`:                             "filter: must have 1 to 20 conditions, not 0",
		`{"":1}`:                         `filter[""]: a path must be names of members joined by dots, none of them empty`,
		`{"a..b":1}`:                     `filter["a..b"]: a path must be names of members joined by dots, none of them empty`,
		`{"a.b.c.d.e.f.g.h.i":1}`:        `filter["a.b.c.d.e.f.g.h.i"]: a path must have at most 8 names`,
		`{"a":[]}`:                       `filter["a"]: a set must have 1 to 50 values, not 0`,
		`{"a":["b",{}]}`:                 `filter["a"][1]: must be a string, a number, true, false or null`,
		`{"a":{}}`:                       `filter["a"]: must be exists, or one or two of gt, gte, lt and lte`,
		`{"a":{"like":"b"}}`:             `filter["a"]: has the operator "like": each must be exists, or one or two of gt, gte, lt and lte`,
		`{"a":{"exists":null}}`:          `filter["a"].exists: must be true or false`,
		`{"a":{"gt":1,"exists":true}}`:   `filter["a"].exists: must be the only operator`,
		`{"a":{"gt":"1"}}`:               `filter["a"].gt: must be a number of at most 1.8e308`,
		`{"a":{"gt":1,"gte":1}}`:         `filter["a"]: there must be only one of gt and gte`,
		`{"a":{"lte":1,"gte":1,"lt":2}}`: `filter["a"]: there must be only one of lt and lte`,
		`{"a":1,"a":2}`:                  `body: has the member "a" twice`,
		`{"a":"` + strings.Repeat("x", 4089) + `"}`: "filter: must be at most 4096 bytes, not 4097",
	} {
		creation("the filter "+value[:min(len(value), 40)]+" is refused", "filter", value, sentence)
	}
	creation("the first of two unknown events is named", "events", `["a","b"]`, `events[0]: "a" is not known…`)
	for _, name := range []string{
		"", ".", "card.", ".viewed", "card..viewed", "Card.viewed", "CARD.VIEWED", "card-viewed", "card viewed", "card.viewed ", " card.viewed",
		"card.*.x", "**", "card*", "*.viewed", "card.viewed*", ".*", "a.b.c.d.e.*", ">", "card.>", "$SYS", "card/viewed", `card\\viewed`, `card\nviewed`, `card\tviewed`, "cärd.viewed", "card․viewed", "a.b.c.d.e.f", "%63ard.viewed", "<card>",
	} {
		creation("an event named "+name+" is no type", "events", `["`+name+`"]`, "events[0]: "+word)
	}
	creation("a name of 129 characters is too long", "events", `["`+strings.Repeat("a", 129)+`"]`, "events[0]: must have at most 128 characters")
	creation("a name with a NUL is refused", "events", `["card\u0000viewed"]`, "body: must not contain NUL characters")
	creation("a name with a lone surrogate is refused", "events", `["card\ud800viewed"]`, "body: must be valid Unicode, without lone surrogates")
	creation("a description of 257 characters is too long", "description", `"`+strings.Repeat("a", 257)+`"`, "description: must have at most 256 characters")
	for name, char := range map[string]string{"a line end": `\r`, "a tab": `\t`, "a bell": `\u0007`, "DEL": `\u007f`, "a control character of C1": `\u0085`} {
		creation("a description with "+name+" is refused", "description", `"a`+char+`b"`, "description: must be one line without control characters")
	}
	for _, name := range []string{"id", "userId", "createdAt", "publicKey", "__proto__", "constructor", "$schema", "é", " url", "url "} {
		creation("a member named "+name+" is refused", name, `1`, name+": is not known here")
	}
	for _, name := range []string{"Url", "EVENTS", "Description"} {
		rows = append(rows, refusal{
			"a member named " + name + " is not the one in small letters", create, `{"url":"https://example.com/","events":["card.viewed"],"` + name + `":"x"}`, 400, name + ": is not known here",
		})
	}

	replay := func(name, members, sentence string) {
		rows = append(rows, refusal{"of a replay, " + name, "POST /api/replays", `{"endpointId":"` + id.String() + `",` + members + `}`, 400, sentence})
	}
	today, since := time.Now().UTC().Truncate(24*time.Hour), `"since":"`+rfc(time.Now().UTC().Truncate(24*time.Hour))+`"`
	replay("since is required", `"mode":"all"`, "since: is required")
	replay("since must be a time", `"since":"soon"`, "since: must be a time as in RFC 3339, such as 2026-08-02T17:45:10Z")
	replay("since must not be in the future", `"since":"9999-12-31T23:59:59Z"`, "since: must not be in the future")
	replay("since must not be before what is kept", `"since":"2001-01-01T00:00:00Z"`, "since: must not be before …")
	replay("until must be after since", since+`,"until":"`+rfc(today)+`"`, "until: must be after since")
	replay("the mode must be one that there is", since+`,"mode":"lost"`, `mode: must be one of "failed, missing, all"`)
	replay("a type must be a type", since+`,"types":["card.*"]`, "types[0]: must be an event type, such as card.viewed")
	replay("21 types are too many", since+`,"types":["a.b"`+strings.Repeat(`,"a.b"`, 20)+`]`, "types: must have at most 20 entries")
	replay("no limit is for operators", since+`,"rate":0`, "rate: must be at least 1")
	replay("a negative rate is none", since+`,"rate":-1`, "rate: must be at least 0")
	replay("a rate must not be too high", since+`,"rate":20001`, "rate: must be at most 20000")
	replay("sequence numbers are for operators", `"fromSequence":1,"toSequence":2`, "fromSequence: is for operators only")
	replay("their end is too", since+`,"toSequence":2`, "toSequence: is for operators only")
	replay("another user's events are for operators", since+`,"userId":"`+bob.String()+`"`, "userId: is for operators only")
	replay("a state can't be chosen", since+`,"state":"finished"`, "state: is not known here")
	replay("dryRun must be true or false", since+`,"dryRun":1`, "dryRun: must be true or false")
	rows = append(rows, refusal{"of a replay, the endpoint is required", "POST /api/replays", "{" + since + "}", 400, "endpointId: is required"},
		refusal{"of a replay, the endpoint must be an id", "POST /api/replays", `{` + since + `,"endpointId":"x"}`, 400, "endpointId: …"})

	again, now := "POST /api/webhooks/"+id.String()+"/recover", rfc(time.Now())
	recovery := func(name, text, sentence string) {
		rows = append(rows, refusal{name, again, text, 400, sentence})
	}
	for _, value := range []string{"1", "true", "null", "[]", "{}"} {
		recovery("a time that is "+value+" is no string", `{"since":`+value+`}`, "since: must be a string")
	}
	for _, value := range []string{
		"", "now", "yesterday", "2026-08-02", "2026-08-02T00:00:00", "2026-08-02 00:00:00Z", "1785628800", "2026-02-30T00:00:00Z", "2026-08-02T24:00:00Z",
		"2026-08-02T00:00:00+25:00", "2026-8-2T0:0:0Z", "-2026-08-02T00:00:00Z", "20260802T000000Z", "P1D",
	} {
		recovery("a time written as "+value+" is no time", `{"since":"`+value+`"}`, "since: must be a time as in RFC 3339, such as 2026-08-02T17:45:10Z")
	}
	for _, value := range []string{"0", "1", `"true"`, "[]", "{}"} { // null is a missing one
		recovery("missing that is "+value+" is neither true nor false", `{"since":"`+now+`","missing":`+value+`}`, "missing: must be true or false")
	}
	recovery("since is required", `{"until":"`+now+`"}`, "since: is required")
	recovery("since must not be in the future", `{"since":"9999-12-31T23:59:59Z"}`, "since: must not be in the future")
	recovery("since must not be before what is kept", `{"since":"0001-01-01T00:00:00Z"}`, "since: must not be before …")
	recovery("until must be after since", `{"since":"`+now+`","until":"`+now+`"}`, "until: must be after since")
	recovery("until must be a time", `{"since":"`+now+`","until":"soon"}`, "until: must be a time as in RFC 3339, such as 2026-08-02T17:45:10Z")
	recovery("a member in other letters is not known", `{"Since":"`+now+`"}`, "since: is required; Since: is not known here")
	recovery("an endpoint can't be chosen in the body", `{"since":"`+now+`","endpointId":"`+id.String()+`"}`, "endpointId: is not known here")
	s.refuses(t, rows)
}

// TestBadJSON sends what is no JSON, or JSON that could be read in two ways, to
// each route that takes a body.
func TestBadJSON(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID.String()
	const (
		unicode = "body: must be valid Unicode, without lone surrogates"
		nul     = "body: must not contain NUL characters"
		deep    = "body: must be nested at most 8 deep"
		after   = "body: must be one JSON object, with nothing after it"
		object  = "body: must be a JSON object"
		near    = "body: must be JSON, which it is not near byte…"
		early   = "body: must be JSON, and ends too early"
		text    = "body: must be UTF-8"
	)
	var rows []refusal
	for _, operation := range []string{"POST /api/webhooks", "POST /api/webhooks/" + id + "/recover", "POST /api/replays"} {
		_, what, _ := strings.Cut(operation, " ")
		what = "to " + strings.ReplaceAll(what, id, "{id}") + ": "
		for _, tt := range []struct {
			name, body string
			status     int
			sentence   string
		}{
			{"null is no object", "null", 400, object},
			{"true is no object", "true", 400, object},
			{"a string is no object", `"{}"`, 400, object},
			{"an array with an object is no object", `[{"url":"https://example.com/"}]`, 400, object},
			{"white space is no object", "\r\n\t ", 400, "body: must be a JSON object, not empty"},
			{"a form is no JSON", "url=https%3A%2F%2Fexample.com", 400, near},
			{"YAML is no JSON", "url: https://example.com", 400, near},
			{"XML is no JSON", `<?xml version="1.0"?><url/>`, 400, near},
			{"a comment is refused", "{} // x", 400, after},
			{"a second object is refused", "{}{}", 400, after},
			{"a second object on a line of its own is refused", "{}\n{}", 400, after},
			{"a NUL after the object is refused", "{}\x00", 400, after},
			{"a byte order mark is refused", "\ufeff{}", 400, near},
			{"UTF-16 is refused", "\xfe\xff\x00{\x00}", 400, text},
			{"Latin-1 is refused", "{\"a\":\"\xfc\"}", 400, text},
			{"a surrogate in UTF-8 is refused", "{\"a\":\"\xed\xa0\x80\"}", 400, text},
			{"an overlong NUL is refused", "{\"a\":\"\xc0\x80\"}", 400, text},
			{"a lone high surrogate is refused", `{"a":"\ud83d"}`, 400, unicode},
			{"a lone low surrogate is refused", `{"a":"\ude00"}`, 400, unicode},
			{"two high surrogates are refused", `{"a":"\ud83d\ud83d"}`, 400, unicode},
			{"a lone surrogate in a name is refused", `{"\ud83d":1}`, 400, unicode},
			{"a lone surrogate deep inside is refused", `{"a":[{"b":["\ud83d"]}]}`, 400, unicode},
			{"a NUL in a value is refused", `{"a":"\u0000"}`, 400, nul},
			{"a NUL in a name is refused", `{"\u0000":1}`, 400, nul},
			{"a NUL deep inside is refused", `{"a":[{"b":["\u0000"]}]}`, 400, nul},
			{"a raw NUL is refused", "{\"a\":\"\x00\"}", 400, near},
			{"a member twice is refused", `{"a":1,"a":1}`, 400, `body: has the member "a" twice`},
			{"a member twice, once escaped, is refused", `{"a":1,"\u0061":1}`, 400, `body: has the member "a" twice`},
			{"a member twice in an object inside is refused", `{"a":{"b":1,"b":2}}`, 400, `body: has the member "b" twice`},
			{"a member twice in an array inside is refused", `{"a":[[{"b":1,"c":2,"b":3}]]}`, 400, `body: has the member "b" twice`},
			{"an empty member twice is refused", `{"":1,"":2}`, 400, `body: has the member "" twice`},
			{"arrays 9 deep are refused", `{"a":` + strings.Repeat("[", 8) + strings.Repeat("]", 8) + `}`, 400, deep},
			{"objects 9 deep are refused", strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9), 400, deep},
			{"arrays 30,000 deep are refused", `{"a":` + strings.Repeat("[", 30_000), 400, deep},
			{"a number without digits is no JSON", `{"a":-}`, 400, near},
			{"a number with a leading zero is no JSON", `{"a":01}`, 400, near},
			{"infinity is no JSON", `{"a":Infinity}`, 400, near},
			{"a bad escape is no JSON", `{"a":"\x41"}`, 400, near},
			{"a name without quotes is no JSON", `{a:1}`, 400, near},
			{"a number beyond any is refused", `{"a":[-1e400]}`, 400, "body: must not contain numbers beyond 1.8e308"},
			{"an object that stays open ends too early", `{"a":{"b":1}`, 400, early},
			{"a string that stays open ends too early", `{"a":"b`, 400, early},
			{"a body of 64 KiB and a byte is too large", `{"a":"` + strings.Repeat("a", 64<<10-7) + `"}`, 413, "body: must be at most 65536 bytes"},
			{"a body of 1 MB is too large", `{"a":"` + strings.Repeat("a", 1_000_000) + `"}`, 413, "body: must be at most 65536 bytes"},
		} {
			rows = append(rows, refusal{what + tt.name, operation, tt.body, tt.status, tt.sentence})
		}
	}
	s.refuses(t, rows)
}
