package subscription

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cardwire/cardwire/events"
)

func TestWantsType(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		patterns []string
		event    string
		want     bool
	}{
		{"the type itself", []string{"card.viewed"}, "card.viewed", true},
		{"one of several types", []string{"contact.saved", "card.viewed"}, "card.viewed", true},
		{"another type", []string{"card.viewed"}, "card.saved", false},
		{"a longer type", []string{"card.viewed"}, "card.viewed.again", false},
		{"a prefix and one word", []string{"card.*"}, "card.viewed", true},
		{"a prefix and two words", []string{"card.*"}, "card.link.clicked", true},
		{"a prefix of two words", []string{"card.link.*"}, "card.link.clicked", true},
		{"a prefix of two words and another second", []string{"card.link.*"}, "card.viewed", false},
		{"a prefix alone is not what it stands for", []string{"card.*"}, "card", false},
		{"a prefix ends with a whole word", []string{"card.*"}, "cards.viewed", false},
		{"everything", []string{"*"}, "card.viewed", true},
		{"everything is not what is operational", []string{"*"}, events.EndpointDisabled, false},
		{"everything beside what is operational", []string{"*", events.EndpointDisabled}, events.EndpointDisabled, true},
		{"a prefix of what is operational", []string{"message.attempt.*"}, events.AttemptExhausted, true},
		{"a shorter prefix of what is operational", []string{"message.*"}, events.AttemptRecovered, true},
		{"a test by everything", []string{"*"}, events.Test, false},
		{"a test by its prefix", []string{"webhook.*"}, events.Test, false},
		{"a test by name", []string{events.Test}, events.Test, false},
		{"nothing asked for", nil, "card.viewed", false},
		{"what is no pattern", []string{"card*", "*.viewed", ".*", ""}, "card.viewed", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := WantsType(tt.patterns, tt.event); got != tt.want {
				t.Errorf("%q want %s: %v", tt.patterns, tt.event, got)
			}
		})
	}
}

// A pattern of a prefix means the same as the broker's filter of it.
func TestAPrefixIsThoseWordsAndMore(t *testing.T) {
	t.Parallel()
	words := []string{"a", "b", "ab", "a_"}
	random := func(most int) []string {
		list := make([]string, 1+rand.N(most))
		for i := range list {
			list[i] = words[rand.N(len(words))]
		}
		return list
	}
	for range 20_000 {
		prefix, name := random(4), random(5)
		want := len(name) > len(prefix) && slices.Equal(name[:len(prefix)], prefix)
		pattern, eventType := strings.Join(prefix, ".")+".*", strings.Join(name, ".")
		if got := WantsType([]string{pattern}, eventType); got != want || !Wildcard(pattern) {
			t.Fatalf("%s wants %s: %v, want %v", pattern, eventType, got, want)
		}
	}
}

func TestPasses(t *testing.T) {
	t.Parallel()
	const data = `{"source":"qr","amount":120,"price":1.5,"vip":true,"cardId":null,"big":9007199254740993,"whole":2.0,"huge":1e400,"empty":"",
		"address":{"country":"DE","lines":["a","b"]},"tags":["x",7,null,{"x":1}],"none":[],"a.b":1,"Source":"link"}`
	for filter, want := range map[string]bool{
		`{"source":"qr"}`: true, `{"source":"QR"}`: false, `{"source":"link"}`: false, `{"Source":"link"}`: true,
		`{"source":["link","qr"]}`: true, `{"source":["link","nfc"]}`: false,
		`{"vip":true}`: true, `{"vip":false}`: false, `{"vip":"true"}`: false, `{"vip":1}`: false, `{"empty":""}`: true, `{"empty":null}`: false,
		`{"cardId":null}`: true, `{"gone":null}`: false, `{"cardId":{"exists":true}}`: true, `{"cardId":{"exists":false}}`: false,
		`{"gone":{"exists":false}}`: true, `{"gone":{"exists":true}}`: false, `{"source.x":{"exists":false}}`: true, `{"tags.0":{"exists":true}}`: false,
		`{"amount":120}`: true, `{"amount":120.0}`: true, `{"amount":1.2e2}`: true, `{"amount":"120"}`: false, `{"whole":2}`: true, `{"price":1.50}`: true,
		`{"big":9007199254740993}`: true, `{"big":9007199254740992}`: false, `{"big":{"gt":9007199254740992}}`: true, `{"big":{"gt":9007199254740993}}`: false,
		`{"amount":{"gt":119}}`: true, `{"amount":{"gt":120}}`: false, `{"amount":{"gte":120}}`: true, `{"amount":{"lt":120}}`: false, `{"amount":{"lte":120}}`: true,
		`{"amount":{"gte":100,"lt":121}}`: true, `{"amount":{"gt":100,"lt":110}}`: false, `{"price":{"gt":1,"lt":2}}`: true, `{"price":{"lte":1.4}}`: false,
		`{"source":{"gt":0}}`: false, `{"cardId":{"lte":0}}`: false, `{"gone":{"lt":9}}`: false, `{"huge":{"gt":1}}`: false, `{"huge":{"exists":true}}`: true,
		`{"address.country":"DE"}`: true, `{"address.country":"FR"}`: false, `{"address":"DE"}`: false, `{"address":{"exists":true}}`: true, `{"address.lines":"b"}`: true,
		`{"tags":"x"}`: true, `{"tags":7}`: true, `{"tags":{"gt":6}}`: true, `{"tags":{"gt":7}}`: false, `{"tags":null}`: true, `{"tags.x":1}`: false, `{"none":"x"}`: false, `{"none":{"exists":true}}`: true,
		`{"a.b":1}`: false, `{"source":"qr","vip":true}`: true, `{"source":"qr","vip":false}`: false,
	} {
		f, err := ParseFilter([]byte(filter))
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if got := f.Passes(ReadData([]byte(`{"type":"card.viewed","data":` + data + `}`))); got != want {
			t.Errorf("%s passes: %v, want %v", filter, got, want)
		}
	}
}

func TestDataThatIsNoObjectHasNoFields(t *testing.T) {
	t.Parallel()
	exists, err := ParseFilter([]byte(`{"a":{"exists":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"", "null", "[]", `{}`, `{"data":null}`, `{"data":[{"a":1}]}`, `{"data":"a"}`, `{"Data":{"a":1}}`, `{"data":`} {
		if exists.Passes(ReadData([]byte(body))) {
			t.Errorf("%s has a field a", body)
		}
	}
	if !(Filter{}).Passes(ReadData(nil)) {
		t.Error("no conditions are not fulfilled")
	}
}

// What a set holds and what does not, whatever the values are.
func TestSetsAndRangesAgreeWithGo(t *testing.T) {
	t.Parallel()
	for range 20_000 {
		low, high, n := rand.N(20)-10, rand.N(20)-10, float64(rand.N(80)-40)/4
		f, err := ParseFilter(fmt.Appendf(nil, `{"a":{"gt":%d,"lte":%d}}`, low, high))
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Appendf(nil, `{"data":{"a":%v}}`, n)
		if got, want := f.Passes(ReadData(body)), float64(low) < n && n <= float64(high); got != want {
			t.Fatalf("%s in (%d, %d]: %v", body, low, high, got)
		}
		set, err := ParseFilter(fmt.Appendf(nil, `{"a":[%d,%d]}`, low, high))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := set.Passes(ReadData(body)), n == float64(low) || n == float64(high); got != want {
			t.Fatalf("%s is %d or %d: %v", body, low, high, got)
		}
	}
}

func TestTheLargestFilterIsTaken(t *testing.T) {
	t.Parallel()
	members := make(map[string]any)
	for i := range MaxConditions {
		members[fmt.Sprint("a", i)] = make([]int, MaxValues)
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseFilter(text); err != nil {
		t.Errorf("%d bytes: %v", len(text), err)
	}
	members["one.more"] = 1
	if text, err = json.Marshal(members); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseFilter(text); err == nil || err.Error() != "filter: must have 1 to 20 conditions, not 21" {
		t.Error(err)
	}
}

func FuzzFilter(f *testing.F) {
	for _, filter := range []string{`{"a":1}`, `{"a.b":["x",null,true]}`, `{"a":{"exists":false}}`, `{"a":{"gt":1,"lte":2e300}}`, `{"a":-0}`} {
		f.Add([]byte(filter), []byte(`{"data":{"a":1,"b":[1,"x"]}}`))
	}
	f.Fuzz(func(t *testing.T, text, body []byte) {
		filter, err := ParseFilter(text)
		if err != nil {
			if _, rule, ok := strings.Cut(err.Error(), ": "); !ok || rule == "" || !strings.HasPrefix(err.Error(), "filter") {
				t.Errorf("the error %q names no field or no rule", err)
			}
			return
		}
		if len(filter.conditions) < 1 || len(filter.conditions) > MaxConditions {
			t.Errorf("%d conditions", len(filter.conditions))
		}
		data := ReadData(body)
		passes := filter.Passes(data)
		all := true
		for _, c := range filter.conditions {
			all = all && Filter{[]condition{c}}.Passes(data)
		}
		if passes != all {
			t.Errorf("passes: %v, each by itself: %v", passes, all)
		}
	})
}

func BenchmarkExactType(b *testing.B) {
	patterns := []string{"contact.saved", "card.viewed"}
	for b.Loop() {
		WantsType(patterns, "card.viewed")
	}
}

func BenchmarkWildcard(b *testing.B) {
	patterns := []string{"contact.saved", "card.*"}
	for b.Loop() {
		WantsType(patterns, "card.viewed")
	}
}
