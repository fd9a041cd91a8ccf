package endpoints

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestBadIDs puts what is no id, in our one spelling of it, into each place of
// each route that takes one.
func TestBadIDs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	known := map[string]string{"{id}": id.String(), "{deliveryId}": s.deliver(t, id, 1)[0].ID.String(), "{recoveryId}": s.finishedRecovery(t, id).String(), "{replayId}": s.oldReplay(t, alice, id).String()}
	spellings := map[string]func(id string) string{
		"in braces":                    func(id string) string { return "%7B" + id + "%7D" },
		"as a URN":                     func(id string) string { return "urn:uuid:" + id },
		"of 32 digits":                 func(id string) string { return strings.ReplaceAll(id, "-", "") },
		"cut off":                      func(id string) string { return id[:35] },
		"with one digit more":          func(id string) string { return id + "0" },
		"with a letter beyond f":       func(id string) string { return id[:35] + "g" },
		"with its dashes elsewhere":    func(id string) string { return id[:7] + "-" + id[7:8] + id[9:] },
		"with a space after it":        func(id string) string { return id + "%20" },
		"with a line end after it":     func(id string) string { return id + "%0a" },
		"with a NUL in it":             func(id string) string { return id[:35] + "%00" },
		"with a quote after it":        func(id string) string { return id + "'" },
		"with full-width digits in it": func(id string) string { return id[:33] + "%EF%BC%91" },
		"in broken UTF-8":              func(id string) string { return id[:35] + "%ff" },
		"with a path after it":         func(id string) string { return id + "%2f.." },
		"in base64":                    func(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) },
		"of 5,000 characters":          func(string) string { return strings.Repeat("0", 5000) },
		"that is a number":             func(string) string { return "1" },
		"that is null":                 func(string) string { return "null" },
		"that is a wildcard":           func(string) string { return "*" },
	}
	var rows []refusal
	for _, operation := range s.operations() {
		for _, place := range slices.Sorted(maps.Keys(known)) {
			if !strings.Contains(operation, place) {
				continue
			}
			for _, how := range slices.Sorted(maps.Keys(spellings)) {
				var fill []string
				for name, value := range known {
					if name == place {
						value = spellings[how](value)
					}
					fill = append(fill, name, value)
				}
				row := refusal{name: operation + " refuses " + place + " " + how, operation: strings.NewReplacer(fill...).Replace(operation), status: 400}
				row.sentence = strings.Trim(place, "{}") + ": must be a UUID of 36 characters"
				if content := tenancy[operation].body; content != nil {
					text, err := json.Marshal(content)
					if err != nil {
						t.Fatal(err)
					}
					row.body = string(text)
				}
				rows = append(rows, row)
			}
		}
	}
	if len(rows) < 10*len(spellings) {
		t.Fatalf("only %d rows: the routes were not found", len(rows))
	}
	s.refuses(t, rows)

	// Upper case is the same id (RFC 9562, section 4), for its owner and nobody else.
	for user, status := range map[uuid.UUID]int{alice: 200, bob: 404} {
		if a := s.call(t, user, "GET", "/api/webhooks/"+strings.ToUpper(id.String()), nil); a.status != status {
			t.Errorf("upper case: %d %s, want %d", a.status, a.body, status)
		}
	}
}

// TestBadPages asks lists for what they don't have. TestBadQueries has more of the kind.
func TestBadPages(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id, other := s.create(t, alice).ID, s.create(t, alice).ID
	s.deliver(t, id, 2)
	s.deliver(t, other, 2)
	cursor := func(id uuid.UUID) string {
		t.Helper()
		return *decode[DeliveryPage](t, s.call(t, alice, "GET", "/api/webhooks/"+id.String()+"/deliveries?limit=1", nil)).Pagination.NextCursor
	}
	own := cursor(id)
	const (
		whole  = "must be a whole number"
		notOur = "cursor: must be the nextCursor of a page of this log"
		moment = "must be a time as in RFC 3339, such as 2026-08-02T17:45:10Z; + is written %2B"
	)
	log := "GET /api/webhooks/" + id.String() + "/deliveries"
	var rows []refusal
	add := func(name, operation, query, sentence string) {
		rows = append(rows, refusal{name, operation + "?" + query, "", 400, sentence})
	}
	for what, operation := range map[string]string{"endpoints": "GET /api/webhooks", "deliveries": log, "recoveries": "GET /api/webhooks/" + id.String() + "/recoveries", "replays": "GET /api/replays"} {
		for value, rule := range map[string]string{
			"0": "must be at least 1", "-1": "must be at least 1", "-9223372036854775808": "must be at least 1",
			"101": "must be at most 100", "9223372036854775807": "must be at most 100",
			"9223372036854775808": whole, "1.0": whole, "1e1": whole, "0x10": whole, "1_0": whole, "ten": whole, "%2010": whole, "10%20": whole,
			"%D9%A1": whole, "null": whole, "true": whole, "10,20": whole, "%00": whole, "%ff": whole, "NaN": whole,
		} {
			add("a limit of "+what+" that is "+value+" is refused", operation, "limit="+value, "limit: "+rule)
		}
		add("two limits of "+what+" are refused", operation, "limit=1&limit=1", `query: has "limit" more than once`)
		add("two limits of "+what+", once escaped, are refused", operation, "limit=1&%6cimit=2", `query: has "limit" more than once`)
		add("a limit of "+what+" in other letters is not known", operation, "Limit=1", "Limit: is not known here")
		add("a limit of "+what+" as an array is not known", operation, "limit[]=1", "limit[]: is not known here")
		add("an offset of "+what+" is not known", operation, "offset=1", "offset: is not known here")
		add("a query of "+what+" with a broken escape is refused", operation, "limit=%z", "query: must be names and values joined by = and &, percent-encoded")
	}
	for value, rule := range map[string]string{
		"0": "must be at least 1", "-1": "must be at least 1", "1001": "must be at most 1000", "999999999999": "must be at most 1000",
		"9223372036854775808": whole, "-9223372036854775809": whole, "1.5": whole, "1e3": whole, "two": whole, "last": whole, "0b1": whole, "1;2": "",
	} {
		sentence := "page: " + rule
		if rule == "" {
			sentence = "query: must be names and values joined by = and &, percent-encoded"
		}
		add("a page that is "+value+" is refused", log, "page="+value, sentence)
	}
	add("two pages are refused", log, "page=1&page=2", `query: has "page" more than once`)
	add("a page beside a cursor is refused", log, "page=2&cursor="+own, "page: must be 1, or missing, with a cursor or a filter: go on by nextCursor")
	for query, filter := range map[string]string{"status=failed": "status", "eventType=card.viewed": "eventType", "since=2026-08-02T00:00:00Z": "since", "until=2026-08-02T00:00:00Z": "until"} {
		add("a page beside the filter "+filter+" is refused", log, "page=2&"+query, "page: must be 1, or missing, with a cursor or a filter: go on by nextCursor")
	}

	add("a cursor of another endpoint is refused", log, "cursor="+cursor(other), notOur)
	add("a cursor in capitals is refused", log, "cursor="+strings.ToUpper(own), notOur)
	add("a cursor that lacks its end is refused", log, "cursor="+own[:len(own)-1], notOur)
	add("a cursor that lacks its beginning is refused", log, "cursor="+own[1:], notOur)
	add("half a cursor is refused", log, "cursor="+own[:len(own)/2], notOur)
	add("a cursor with something after it is refused", log, "cursor="+own+"AAAA", notOur)
	add("a cursor with padding is refused", log, "cursor="+own+"%3D", notOur)
	add("a cursor with a line end is refused", log, "cursor="+own+"%0A", notOur)
	add("a cursor with a space in front is refused", log, "cursor=%20"+own, notOur)
	add("a cursor with a NUL is refused", log, "cursor="+own+"%00", notOur)
	add("a cursor of another alphabet is refused", log, "cursor=%2B%2F"+own[2:], notOur)
	add("a cursor in hex is refused", log, "cursor="+strings.Repeat("0a", 33), notOur)
	add("a cursor of zeros is refused", log, "cursor="+strings.Repeat("A", len(own)), notOur)
	add("a delivery's id is no cursor", log, "cursor="+uuid.NewString(), notOur)
	add("a number is no cursor", log, "cursor=1", notOur)
	add("JSON in base64 is no cursor", log, "cursor="+base64.RawURLEncoding.EncodeToString([]byte(`{"id":"`+uuid.NewString()+`"}`)), notOur)
	add("a cursor of 129 characters is too long", log, "cursor="+strings.Repeat("A", 129), "cursor: must have at most 128 characters")
	add("two cursors are refused", log, "cursor="+own+"&cursor="+own, `query: has "cursor" more than once`)

	for _, value := range []string{"done", "Failed", "FAILED", "failed%20", "failed,success", "null", "%00", "0"} {
		add("a status that is "+value+" is refused", log, "status="+value, "status: must be one of…")
	}
	for _, value := range []string{"card.*", "*", "%3E", "Card.Viewed", "card..viewed", ".", "card.viewed%20", "a.b.c.d.e.f", "%00", "%ff", "card%0Aviewed"} {
		add("an event type that is "+value+" is refused", log, "eventType="+value, "eventType: "+eventTypeRule)
	}
	add("an event type of 129 characters is too long", log, "eventType="+strings.Repeat("a", 129), "eventType: must have at most 128 characters")
	for _, filter := range []string{"since", "until"} {
		for _, value := range []string{
			"yesterday", "now", "0", "1785628800", "2026-08-02", "2026-08-02T00:00:00", "2026-08-02%2000:00:00Z", "2026-02-30T00:00:00Z", "2026-08-02T25:00:00Z",
			"2026-08-02T00:00:00+02:00", "2026-08-02T00:00:00%2B25:00", "%00", "2026-08-02T00:00:00Z%00",
		} {
			add(filter+" that is "+value+" is no time", log, filter+"="+value, filter+": "+moment)
		}
		add(filter+" of 65 characters is no time", log, filter+"="+strings.Repeat("0", 65), filter+": "+moment)
	}
	add("since after until is refused", log, "since=2026-08-03T00:00:00Z&until=2026-08-02T00:00:00Z", "until: must be after since")
	add("since after until is refused across zones", log, "since=2026-08-02T01:00:00Z&until=2026-08-02T02:30:00%2B02:00", "until: must be after since")
	add("since that is until is refused", log, "since=2026-08-02T00:00:00Z&until=2026-08-02T00:00:00Z", "until: must be after since")
	add("a filter that nobody knows is refused", log, "reason=exhausted", "reason: is not known here")
	add("a filter in other letters is refused", log, "eventtype=card.viewed", "eventtype: is not known here")
	add("a query of a delivery is refused", log+"/"+uuid.NewString(), "status=failed", "status: is not known here")
	add("a query of a summary is refused", "GET /api/webhooks/"+id.String()+"/summary", "since=2026-08-02T00:00:00Z", "since: is not known here")
	add("a query of a resend is refused", "POST /api/webhooks/"+id.String()+"/deliveries/"+uuid.NewString()+"/resend", "force=1", "force: is not known here")
	add("a query of a test is refused", "POST /api/webhooks/"+id.String()+"/test", "type=card.viewed", "type: is not known here")
	add("a query of a deletion is refused", "DELETE /api/webhooks/"+id.String(), "force=true", "force: is not known here")
	s.refuses(t, rows)

	for _, query := range []string{"page=", "limit=", "cursor=", "status=", "eventType=", "since=", "until="} { // an empty one is a missing one
		if a := s.call(t, alice, "GET", strings.TrimPrefix(log, "GET ")+"?"+query, nil); a.status != 200 || len(decode[DeliveryPage](t, a).Data) != 2 {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}
