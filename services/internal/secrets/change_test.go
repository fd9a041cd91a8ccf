package secrets

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// TestRotationOfKeys: at no step does any service seal what another can't open,
// as long as each step is everywhere before the next begins.
func TestRotationOfKeys(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	first, err := NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	added, fresh, err := AddKey(first)
	if err != nil {
		t.Fatal(err)
	}
	promoted, which, err := PromoteKey(added)
	if err != nil || which != fresh {
		t.Fatalf("promoted %d, %v; want %d", which, err, fresh)
	}
	pruned, removed, err := PruneKeys(promoted)
	if err != nil {
		t.Fatal(err)
	}
	if old := parse(t, first).Primary(); len(removed) != 1 || removed[0] != old || old == fresh {
		t.Errorf("pruned %v, want %d", removed, old)
	}
	steps := []*Keyset{parse(t, first), parse(t, added), parse(t, promoted), parse(t, pruned)}
	for i := range steps[1:] {
		for _, pair := range [][2]*Keyset{{steps[i], steps[i+1]}, {steps[i+1], steps[i]}} {
			sealed, err := pair[0].Seal(id, []byte("secret"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = pair[1].Open(id, sealed); err != nil {
				t.Errorf("steps %d and %d side by side: %v", i, i+1, err)
			}
		}
	}
	if steps[0].Primary() != steps[1].Primary() || steps[1].Primary() == steps[2].Primary() || steps[2].Primary() != steps[3].Primary() {
		t.Error("the primary changes elsewhere than by promoting")
	}
	old, err := steps[0].Seal(id, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	var missing *MissingKeyError
	if _, err := steps[3].Open(id, old); !errors.As(err, &missing) || missing.KeyID != steps[0].Primary() {
		t.Errorf("what the pruned key sealed: %v", err)
	}
}

func TestStepsOutOfTurn(t *testing.T) {
	t.Parallel()
	first, err := NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	added, _, err := AddKey(first)
	if err != nil {
		t.Fatal(err)
	}
	disabled := keyset.NewManager()
	off := add(t, disabled)
	add(t, disabled)
	if err := disabled.Disable(off); err != nil {
		t.Fatal(err)
	}
	addKey := func(s string) (string, error) { next, _, err := AddKey(s); return next, err }
	promote := func(s string) (string, error) { next, _, err := PromoteKey(s); return next, err }
	prune := func(s string) (string, error) { next, _, err := PruneKeys(s); return next, err }
	for _, tt := range []struct {
		name   string
		step   func(string) (string, error)
		keyset string
		want   error // nil: a keyset
	}{
		{"add after add", addKey, added, ErrUnpromoted},
		{"promote before add", promote, first, ErrPromoted},
		{"prune before promote", prune, added, ErrUnpromoted},
		{"prune with nothing to prune", prune, first, nil},
		{"prune with a disabled key", prune, serialize(t, disabled), nil},
		{"add with a disabled key", addKey, serialize(t, disabled), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			next, err := tt.step(tt.keyset)
			if !errors.Is(err, tt.want) || (tt.want == nil) != (next != "") {
				t.Fatalf("got %q, %v; want %v", next, err, tt.want)
			}
			if tt.want == nil {
				parse(t, next)
			}
		})
	}
	for name, step := range map[string]func(string) (string, error){"add": addKey, "promote": promote, "prune": prune} {
		if next, err := step("swordfish"); err == nil || next != "" || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s of no keyset: %q, %v", name, next, err)
		}
	}
}

func TestMissingKeyError(t *testing.T) {
	t.Parallel()
	mine, other := newKeyset(t), newKeyset(t)
	id := uuid.New()
	sealed, err := other.Seal(id, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := KeyID(sealed); !ok || key != other.Primary() || !strings.HasPrefix(string(sealed), string(other.Prefix())) {
		t.Errorf("key %d, %v; want %d", key, ok, other.Primary())
	}
	var missing *MissingKeyError
	if _, err = mine.Open(id, sealed); !errors.As(err, &missing) || missing.KeyID != other.Primary() || !strings.Contains(err.Error(), "ENCRYPTION_KEYSET") {
		t.Errorf("a key that is missing: %v", err)
	}
	if _, err = other.Open(uuid.New(), sealed); err == nil || errors.As(err, &missing) {
		t.Errorf("a key that is there, another row: %v", err)
	}
	for name, bytes := range map[string][]byte{"nothing": nil, "four bytes": {1, 2, 3, 4}, "no prefix of Tink's": []byte("swordfish")} {
		if _, err = mine.Open(id, bytes); err == nil || errors.As(err, &missing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
