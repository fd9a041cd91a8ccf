package secrets

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"pgregory.net/rapid"
)

func TestSealOpen(t *testing.T) {
	t.Parallel()
	keys := newKeyset(t)
	rapid.Check(t, func(t *rapid.T) {
		plaintext := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext")
		mine := drawUUID(t, "mine")
		other := rapid.Custom(func(t *rapid.T) uuid.UUID { return drawUUID(t, "other") }).
			Filter(func(id uuid.UUID) bool { return id != mine }).Draw(t, "other")

		sealed, err := keys.Seal(mine, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) != len(plaintext)+Overhead {
			t.Fatalf("%d bytes became %d, want %d more", len(plaintext), len(sealed), Overhead)
		}
		opened, err := keys.Open(mine, sealed)
		if err != nil || !bytes.Equal(opened, plaintext) {
			t.Fatalf("opened %x, %v; sealed %x", opened, err, plaintext)
		}
		if _, err := keys.Open(other, sealed); err == nil {
			t.Fatal("a ciphertext that was moved to another endpoint opened there")
		}
		at := rapid.IntRange(0, len(sealed)-1).Draw(t, "at")
		sealed[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := keys.Open(mine, sealed); err == nil {
			t.Fatalf("opened although byte %d was changed", at)
		}
		if _, err := keys.Open(mine, sealed[:at]); err == nil {
			t.Fatalf("opened although cut to %d bytes", at)
		}
	})
}

func TestAnotherKeysetDoesNotOpen(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	sealed, err := newKeyset(t).Seal(id, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = newKeyset(t).Open(id, sealed)
	if err == nil {
		t.Fatal("opened with a key that did not seal it")
	}
	if !strings.Contains(err.Error(), id.String()) {
		t.Errorf("error does not say which endpoint: %v", err)
	}
}

// TestKeysetOfSeveralKeys is the shape that rotation needs: the new primary seals,
// the old key still opens, and the record says which key sealed it.
func TestKeysetOfSeveralKeys(t *testing.T) {
	t.Parallel()
	manager := keyset.NewManager()
	first := add(t, manager)
	before := parse(t, serialize(t, manager))
	id := uuid.New()
	old, err := before.Seal(id, []byte("sealed before"))
	if err != nil {
		t.Fatal(err)
	}

	second := add(t, manager)
	after := parse(t, serialize(t, manager))
	fresh, err := after.Seal(id, []byte("sealed after"))
	if err != nil {
		t.Fatal(err)
	}
	for sealed, want := range map[string]string{string(old): "sealed before", string(fresh): "sealed after"} {
		if got, err := after.Open(id, []byte(sealed)); err != nil || string(got) != want {
			t.Errorf("opened %q, %v; want %q", got, err, want)
		}
	}
	if got := binary.BigEndian.Uint32(old[1:5]); got != first {
		t.Errorf("the old record names key %d, want %d", got, first)
	}
	if got := binary.BigEndian.Uint32(fresh[1:5]); got != second {
		t.Errorf("the new record names key %d, want %d", got, second)
	}
	if _, err := before.Open(id, fresh); err == nil {
		t.Error("opened by a keyset without the new key")
	}

	if err := manager.Delete(first); err != nil {
		t.Fatal(err)
	}
	without := parse(t, serialize(t, manager))
	if _, err := without.Open(id, old); err == nil {
		t.Error("opened by a keyset from which its key was removed")
	}
}

func BenchmarkOpen(b *testing.B) {
	s, err := NewKeyset()
	if err != nil {
		b.Fatal(err)
	}
	keys, err := ParseKeyset(s)
	if err != nil {
		b.Fatal(err)
	}
	id := uuid.New()
	sealed, err := keys.Seal(id, []byte(strings.Repeat("ab", 32)))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keys.Open(id, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func newKeyset(t *testing.T) *Keyset {
	t.Helper()
	s, err := NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, s)
}

func parse(t *testing.T, serialized string) *Keyset {
	t.Helper()
	k, err := ParseKeyset(serialized)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// add puts a new key into the keyset and makes it the primary.
func add(t *testing.T, manager *keyset.Manager) (keyID uint32) {
	t.Helper()
	return addOf(t, manager, aead.AES256GCMKeyTemplate())
}

func addOf(t *testing.T, manager *keyset.Manager, template *tinkpb.KeyTemplate) (keyID uint32) {
	t.Helper()
	keyID, err := manager.Add(template)
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.SetPrimary(keyID); err != nil {
		t.Fatal(err)
	}
	return keyID
}

func serialize(t *testing.T, manager *keyset.Manager) string {
	t.Helper()
	handle, err := manager.Handle()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b)); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

func drawUUID(t *rapid.T, label string) uuid.UUID {
	return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
}

func TestAnswerID(t *testing.T) {
	t.Parallel()
	alice, bob := uuid.MustParse("00000000-0000-7000-8000-000000000001"), uuid.MustParse("00000000-0000-7000-8000-000000000002")
	seen := map[uuid.UUID]bool{}
	for _, id := range []uuid.UUID{AnswerID(alice, "a"), AnswerID(alice, "b"), AnswerID(bob, "a"), AnswerID(alice, "a ")} {
		if seen[id] {
			t.Errorf("%v is the id of two answers", id)
		}
		seen[id] = true
	}
	// Rows hold what was sealed under it: it must never change.
	if got, want := AnswerID(alice, "a").String(), uuid.NewSHA1(alice, []byte("a")).String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
