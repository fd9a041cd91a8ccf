package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
)

// apiName is a part of the stack that faults of others may hit meanwhile: what
// users do.
const apiName = "users"

// changes are what users do while other things go wrong.
func changes() []fault {
	parts := []string{apiName}
	return []fault{
		{"endpoints created and deleted", parts, false, createdAndDeleted},
		{"secrets rotated", parts, false, rotated},
		{"replays", parts, false, replayed},
	}
}

// createdAndDeleted creates endpoints, and deletes every other after a while.
func createdAndDeleted(ctx context.Context, _ *stack, r *run, rnd *rand.Rand) error {
	for i := range 2 + rnd.IntN(3) {
		t, err := newTarget(r.targets[rnd.IntN(len(r.targets))].user, well, common, viewed)
		if err != nil {
			return err
		}
		r.receiver.add(t)
		accepted, err := r.api.create(ctx, t, r.receiver.url, uuid.NewString())
		if err != nil {
			return err
		}
		pause(rnd, 0, time.Second)
		if !accepted || i%2 == 1 {
			continue
		}
		if err := r.api.remove(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// rotated rotates the secrets of some endpoints. The old ones stay valid, as long
// as a seed can take.
func rotated(ctx context.Context, _ *stack, r *run, rnd *rand.Rand) error {
	for range 2 + rnd.IntN(4) {
		if err := r.api.rotate(ctx, r.targets[rnd.IntN(len(r.targets))], "1h"); err != nil {
			return err
		}
		pause(rnd, 0, 500*time.Millisecond)
	}
	return nil
}

// replayed begins replays to some endpoints.
func replayed(ctx context.Context, _ *stack, r *run, rnd *rand.Rand) error {
	for range 1 + rnd.IntN(2) {
		t := r.targets[rnd.IntN(len(r.targets))]
		if t.how != well { // others may be disabled, or exhausted
			continue
		}
		if err := r.api.replay(ctx, t, r.begun, 50+rnd.IntN(450)); err != nil {
			return err
		}
		pause(rnd, 0, time.Second)
	}
	return nil
}

// eventTypes writes the types of the lab's events for EVENT_TYPES_FILE: nobody can
// ask the API for others.
func eventTypes(dir string) (path string, err error) {
	var types []map[string]any
	for _, name := range []string{common, rare, viewed, "lab.other"} {
		example := map[string]any{"type": name, "timestamp": "2026-08-02T17:45:09.5Z", "data": map[string]any{}}
		types = append(types, map[string]any{
			"name": name, "description": "An event of the crash lab.", "schema": map[string]any{"type": "object"}, "example": example,
		})
	}
	text, err := json.Marshal(types)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "event-types.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("write event types: %w", err)
	}
	return path, nil
}
