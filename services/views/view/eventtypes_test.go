package view

import (
	"net/netip"
	"testing"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/eventtypes"
)

// What is published follows the schemas that receivers are shown.
func TestEventsFollowTheirSchemas(t *testing.T) {
	t.Parallel()
	catalog, err := eventtypes.Load("")
	if err != nil {
		t.Fatal(err)
	}
	check := func(e events.Event, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		eventType, ok := catalog.Type(e.Type)
		if !ok {
			t.Fatalf("%s is not in the catalog", e.Type)
		}
		if err := eventType.Validate(e.Body); err != nil {
			t.Errorf("%s: %v", e.Body, err)
		}
	}
	for _, card := range []uuid.UUID{uuid.Nil, cardID} {
		for _, by := range []uuid.UUID{uuid.Nil, viewerID} {
			p := &page{key: pageKey{username: "alice", cardID: card}, ownerID: ownerID}
			e, _, err := viewEvent(p, viewer{id: by, addr: netip.MustParseAddr("192.0.2.7"), agent: "curl/8"}, "link", hasher("k"))
			check(e, err)
		}
	}
	check(events.New(ownerID, events.ContactSaved, saved{CardID: cardID, SavedBy: viewerID, Username: "alice"}))
}
