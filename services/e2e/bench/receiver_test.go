package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/signing"
)

func TestTheReceiverBehavesAndCounts(t *testing.T) {
	t.Parallel()
	r := &receiver{groups: make(map[string]*group)}
	server := httptest.NewServer(r.handler())
	t.Cleanup(server.Close)
	post := func(path string, event uuid.UUID, due time.Time) (status int) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, server.URL+path, strings.NewReader(fmt.Sprintf(`{"data":{"due":"%d"}}`, due.UnixNano())))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(signing.HeaderID, event.String())
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	tallied := func(group string) (got tally) {
		t.Helper()
		resp, err := server.Client().Get(server.URL + "/tally/" + group + "?late=1")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		return got
	}

	a, b := uuid.New(), uuid.New()
	earlier := time.Now().Add(-2 * time.Second)
	for _, row := range []struct {
		path   string
		event  uuid.UUID
		status int
	}{
		{"/0s/well/1", a, 204},
		{"/1ms/well/1", b, 204},
		{"/0s/well/2", a, 204}, // the same event at another endpoint
		{"/0s/well/1", a, 204}, // a repeat
		{"/fail/bad/1", a, 500},
		{"/someday/bad/1", a, 400},
	} {
		if got := post(row.path, row.event, earlier); got != row.status {
			t.Errorf("%s: %d, want %d", row.path, got, row.status)
		}
	}
	got := tallied("well")
	if got.Posts != 4 || got.Distinct != 3 {
		t.Errorf("%d posts, %d of them different; want 4 and 3", got.Posts, got.Distinct)
	}
	q := newQuantiles(got, 3)
	if q.Count != 3 || q.P50 < 1_990_000 {
		t.Errorf("%+v, want the first receipts alone, from when they were due", q)
	}
	if q := newQuantiles(got, 4); q.Count != 4 || q.Max < 599_000_000 || q.P50 > 100_000_000 {
		t.Errorf("%+v, want the one that is missing as the longest", q)
	}
	if got := tallied("nobody"); got.Posts != 0 || newQuantiles(got, 0).Count != 0 {
		t.Errorf("%+v of nobody", got)
	}
}
