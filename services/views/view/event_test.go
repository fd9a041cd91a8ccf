package view

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/cardwire/cardwire/events"
)

var (
	ownerID  = uuid.MustParse("00000000-0000-7000-8000-000000000001")
	viewerID = uuid.MustParse("00000000-0000-7000-8000-000000000002")
	cardID   = uuid.MustParse("00000000-0000-7000-8000-0000000000c1")
)

func TestViewEvent(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr("192.0.2.7")
	h := hasher(strings.Repeat("k", 32))
	profile := &page{key: pageKey{username: "alice"}, ownerID: ownerID}
	card := &page{key: pageKey{username: "alice", cardID: cardID}, ownerID: ownerID}
	for _, tt := range []struct {
		name       string
		page       *page
		by         viewer
		data       string // of the event; empty: no event
		attributes map[string]string
	}{
		{
			name: "anonymous viewer of a profile: both ids are null",
			page: profile, by: viewer{addr: addr, agent: "curl/8"},
			data:       `{"cardId":null,"viewerId":null,"username":"alice","source":"link"}`,
			attributes: map[string]string{attrHash: h.hash(addr), attrAgent: "curl/8"},
		},
		{
			name: "known viewer of a card",
			page: card, by: viewer{id: viewerID, addr: addr},
			data:       `{"cardId":"` + cardID.String() + `","viewerId":"` + viewerID.String() + `","username":"alice","source":"link"}`,
			attributes: map[string]string{attrHash: h.hash(addr)},
		},
		{
			name: "no address: no hash",
			page: profile, by: viewer{agent: "a"},
			data:       `{"cardId":null,"viewerId":null,"username":"alice","source":"link"}`,
			attributes: map[string]string{attrAgent: "a"},
		},
		{name: "the owner's own view is no event", page: card, by: viewer{id: ownerID, addr: addr}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, ok, err := viewEvent(tt.page, tt.by, "link", h)
			if err != nil || ok != (tt.data != "") {
				t.Fatalf("viewEvent: ok = %v, %v", ok, err)
			}
			if !ok {
				return
			}
			if e.UserID != ownerID || e.Type != events.CardViewed {
				t.Errorf("event of user %v, type %s", e.UserID, e.Type)
			}
			var body struct{ Data json.RawMessage }
			if err := json.Unmarshal(e.Body, &body); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.data, string(body.Data)); diff != "" {
				t.Errorf("data (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.attributes, e.Attributes); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever a stranger sends, the event is valid, survives the way over the
// broker, and its body has nothing of address and agent.
func TestViewEventIsValidForAnyRequest(t *testing.T) {
	t.Parallel()
	h := hasher(strings.Repeat("k", 32))
	rapid.Check(t, func(t *rapid.T) {
		var octets [16]byte
		copy(octets[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
		by := viewer{
			id:    uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "viewer")),
			addr:  netip.AddrFrom16(octets).Unmap(),
			agent: rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "agent"),
		}
		source := rapid.StringMatching(`[a-z0-9_-]{1,32}`).Draw(t, "source")
		e, ok, err := viewEvent(&page{key: pageKey{username: "alice"}, ownerID: ownerID}, by, source, h)
		if err != nil || !ok {
			t.Fatalf("viewEvent: ok = %v, %v", ok, err)
		}
		m := e.Msg()
		got, err := events.Decode(m.Subject, m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Fatalf("decoded (-want +got):\n%s", diff)
		}
		r, err := rowOf(got)
		if err != nil {
			t.Fatal(err)
		}
		if r.data.Source != source || orNil(r.data.ViewerID) != by.id || r.data.CardID != nil {
			t.Fatalf("row %+v of %+v", r.data, by)
		}
	})
}

func TestHash(t *testing.T) {
	t.Parallel()
	a, b := hasher(strings.Repeat("a", 32)), hasher(strings.Repeat("b", 32))
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	if mapped := netip.MustParseAddr("::ffff:192.0.2.1"); a.hash(one) != a.hash(mapped) {
		t.Error("one address in two spellings has two hashes")
	}
	if a.hash(one) == a.hash(other) {
		t.Error("two addresses have one hash")
	}
	if a.hash(one) == b.hash(one) {
		t.Error("two keys give one hash")
	}
	if n := len(a.hash(one)); n != 32 {
		t.Errorf("hash of %d characters", n)
	}
}

func TestCleanAgent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "Mozilla/5.0 (X11; Linux)", "Mozilla/5.0 (X11; Linux)"},
		{"control characters go", "a\x00b\tc\x7fd\u0085e", "abcde"},
		{"invalid UTF-8 goes", "a\xff\xfeb", "ab"},
		{"what marks a broken character goes too", "a\uFFFDb", "ab"},
		{"what turns text around goes", "a\u202eb", "ab"},
		{"other scripts stay", "Браузер/1", "Браузер/1"},
		{"cut at 512 bytes", strings.Repeat("x", 600), strings.Repeat("x", 512)},
		{"cut between characters", "x" + strings.Repeat("é", 300), "x" + strings.Repeat("é", 255)},
		{"only spaces", "   ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := cleanAgent(tt.in); got != tt.want {
				t.Errorf("cleanAgent(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func FuzzCleanAgent(f *testing.F) {
	f.Add("Mozilla/5.0")
	f.Add("a\xff\x00\uFFFD")
	f.Add(strings.Repeat("é", 600))
	f.Fuzz(func(t *testing.T, s string) {
		got := cleanAgent(s)
		if len(got) > maxAgent || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) {
			t.Errorf("cleanAgent(%q) = %q", s, got)
		}
	})
}
