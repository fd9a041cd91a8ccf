package endpoints

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestAuditLog(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	page := func(user uuid.UUID, query string) AuditPage {
		t.Helper()
		a := s.call(t, user, "GET", "/api/audit-log"+query, nil)
		if a.status != 200 {
			t.Fatalf("%s: %d %s", query, a.status, a.body)
		}
		return decode[AuditPage](t, a)
	}
	s.create(t, bob)
	e, other := s.create(t, alice), s.create(t, alice)
	path := "/api/webhooks/" + e.ID.String()
	s.patch(t, e.ID, `{"url":"https://example.com/hook/`+uuid.NewString()+`?token=s3cret","isActive":false}`)
	s.patch(t, e.ID, `{"isActive":true}`)
	rotated := decode[RotatedSecret](t, s.call(t, alice, "PATCH", path+"/rotate-secret?overlap=90m", nil))
	s.call(t, alice, "POST", path+"/test", nil)
	s.call(t, alice, "DELETE", path, nil)

	want := []string{
		"endpoint.deleted", "endpoint.tested", "secret.rotated", "endpoint.enabled", "endpoint.disabled", "endpoint.updated",
		"endpoint.created", "endpoint.created",
	}
	all := page(alice, "")
	var actions []string
	for i, r := range all.Data {
		actions = append(actions, r.Action)
		if r.Actor != "user:"+alice.String() || i > 0 && r.CreatedAt.After(all.Data[i-1].CreatedAt) {
			t.Errorf("record %d: %+v", i, r)
		}
		for _, secret := range []string{e.Secret, rotated.Secret, "s3cret"} {
			if strings.Contains(string(r.Details.RawMessage), secret) {
				t.Errorf("%s tells a secret: %s", r.Action, r.Details.RawMessage)
			}
		}
	}
	if !slices.Equal(actions, want) || all.NextCursor != nil {
		t.Errorf("recorded %q, want %q", actions, want)
	}
	if details := string(all.Data[2].Details.RawMessage); !sameJSON(t, details, `{"overlap":"1h30m"}`) {
		t.Errorf("rotation: %s", details)
	}

	// By pages it is the same; what comes meanwhile is not in them.
	var paged []AuditRecord
	query := "?limit=3"
	for pages := 1; ; pages++ {
		p := page(alice, query)
		paged = append(paged, p.Data...)
		if p.NextCursor == nil {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		s.patch(t, other.ID, `{"description":"`+uuid.NewString()+`"}`)
		query = "?limit=3&cursor=" + *p.NextCursor
		if a := s.call(t, bob, "GET", "/api/audit-log"+query, nil); a.status != 400 || a.sentence(t) != "cursor: must be the nextCursor of a page of this log" {
			t.Errorf("a cursor of somebody else's: %d %s", a.status, a.body)
		}
	}
	if len(paged) != len(all.Data) || !slices.EqualFunc(paged, all.Data, func(a, b AuditRecord) bool { return a.ID == b.ID }) {
		t.Errorf("paged %d records, want %d", len(paged), len(all.Data))
	}
	if exactly := page(alice, "?limit=10"); len(exactly.Data) != 10 || exactly.NextCursor != nil {
		t.Errorf("a page that is just full: %d records, next %v", len(exactly.Data), exactly.NextCursor)
	}
	if deleted := page(alice, "?endpointId="+e.ID.String()); len(deleted.Data) != 7 {
		t.Errorf("of the deleted endpoint: %d records", len(deleted.Data))
	}
	if bobs := page(bob, "?endpointId="+e.ID.String()); len(bobs.Data) != 0 {
		t.Errorf("bob sees %v of alice's endpoint", bobs.Data)
	}
	if bobs := page(bob, ""); len(bobs.Data) != 1 {
		t.Errorf("bob sees %v", bobs.Data)
	}
}
