package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/steptest"
)

// TestTheStatementOfTheOutboxsDocumentWritesAnEvent runs the statement that
// docs/outbox.md gives to other languages.
func TestTheStatementOfTheOutboxsDocumentWritesAnEvent(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/outbox.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```sql\n")
	statement, _, ended := strings.Cut(rest, "```")
	if !ok || !ended {
		t.Fatal("docs/outbox.md has no sql block")
	}
	e := steptest.New(t)
	relay := outboxRelay(e)
	var id uuid.UUID
	if err := e.DB.QueryRow(t.Context(), statement, alice, "order.paid", `{"amount": 1200}`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	if n, err := relay.Once(t.Context()); n != 1 || err != nil {
		t.Fatalf("relayed %d, %v", n, err)
	}
	got := published(e)
	if len(got) != 1 || got[0].ID != id || got[0].UserID != alice || got[0].Type != "order.paid" {
		t.Fatalf("published %+v", got)
	}
	var body struct {
		Data struct{ Amount int }
	}
	if err := json.Unmarshal(got[0].Body, &body); err != nil || body.Data.Amount != 1200 {
		t.Errorf("body %s: %v", got[0].Body, err)
	}
}
