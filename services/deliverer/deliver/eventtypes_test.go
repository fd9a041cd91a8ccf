package deliver

import (
	"testing"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/eventtypes"
)

// Operational events follow the schemas that receivers are shown.
func TestOperationalEventsFollowTheirSchemas(t *testing.T) {
	t.Parallel()
	catalog, err := eventtypes.Load("")
	if err != nil {
		t.Fatal(err)
	}
	id, code := uuid.New(), 503
	for _, tt := range []struct {
		eventType string
		data      any
	}{
		{events.EndpointDisabled, disabledData{id, "gone"}},
		{events.EndpointDisabled, disabledData{id, "failing"}},
		{events.AttemptExhausted, attemptData{EndpointID: id, DeliveryID: id, EventID: id, EventType: "card.viewed", Attempts: 4}},
		{events.AttemptRecovered, attemptData{EndpointID: id, DeliveryID: id, EventID: id, EventType: "card.viewed", Attempts: 5, ResponseCode: &code}},
	} {
		e, err := events.New(id, tt.eventType, tt.data)
		if err != nil {
			t.Fatal(err)
		}
		eventType, ok := catalog.Type(tt.eventType)
		if !ok {
			t.Fatalf("%s is not in the catalog", tt.eventType)
		}
		if err := eventType.Validate(e.Body); err != nil {
			t.Errorf("%s: %v", e.Body, err)
		}
	}
}
