package endpoints

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/sql/db"
)

// audit records in the caller's transaction that a user did something to an
// endpoint of theirs: action is two words or more joined by a dot, such as
// "endpoint.created", details what changed. They must hold no secret, and of a
// URL no more than [bareURL].
func audit(ctx context.Context, q *db.Queries, user, endpointID uuid.UUID, action string, details map[string]any) error {
	if details == nil {
		details = map[string]any{}
	}
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("audit %s: %w", action, err)
	}
	err = q.RecordAudit(ctx, db.RecordAuditParams{
		UserID: user, EndpointID: endpointID, Actor: "user:" + user.String(), Action: action, Details: text,
	})
	if err != nil {
		return fmt.Errorf("audit %s: %w", action, err)
	}
	return nil
}

// bareURL is a URL without its query, in which receivers keep secrets.
func bareURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

func (a *API) auditLog(ctx context.Context, user uuid.UUID, in *auditInput) (*auditOutput, error) {
	scope := auditScope(user)
	p := db.ListAuditParams{UserID: user, Before: uuid.Max, MaxRows: int32(in.Limit) + 1}
	if in.Cursor != "" {
		var err error
		if p.Before, err = a.store.parseCursor(scope, in.Cursor); err != nil {
			return nil, err
		}
	}
	if in.EndpointID != (ID{}) {
		id := uuid.UUID(in.EndpointID)
		p.EndpointID = &id
	}
	rows, err := db.New(a.store.DB).ListAudit(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("list audit records of user %v: %w", user, err)
	}
	out := &auditOutput{AuditPage{Data: make([]AuditRecord, min(len(rows), in.Limit))}}
	for i := range out.Body.Data {
		r := rows[i]
		out.Body.Data[i] = AuditRecord{
			ID: r.ID, EndpointID: r.EndpointID, Actor: r.Actor, Action: r.Action,
			Details: Details{r.Details}, CreatedAt: r.CreatedAt.UTC(),
		}
	}
	if len(rows) > in.Limit {
		next, err := a.store.newCursor(scope, rows[in.Limit-1].ID)
		if err != nil {
			return nil, err
		}
		out.Body.NextCursor = &next
	}
	return out, nil
}

// auditScope is what cursors of a user's audit log are sealed for.
func auditScope(user uuid.UUID) uuid.UUID { return uuid.NewSHA1(user, []byte("audit log")) }
