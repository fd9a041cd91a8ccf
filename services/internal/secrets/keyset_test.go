package secrets

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

func TestNewKeyset(t *testing.T) {
	t.Parallel()
	a, err := NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	if a == b {
		t.Error("two fresh keysets are the same")
	}
	if strings.ContainsAny(a, "\"'{} \n$") {
		t.Errorf("needs quoting in an environment file: %d characters", len(a))
	}
}

func TestParseKeyset(t *testing.T) {
	t.Parallel()
	good, err := NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := base64.StdEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	of := func(template *tinkpb.KeyTemplate) string {
		manager := keyset.NewManager()
		addOf(t, manager, template)
		return serialize(t, manager)
	}
	mixed := keyset.NewManager()
	addOf(t, mixed, aead.AES128GCMKeyTemplate())
	add(t, mixed)

	tests := []struct {
		name, serialized, wantErr string
	}{
		{"base64 of JSON, as NewKeyset makes it", good, ""},
		{"JSON, as tinkey writes it", string(asJSON), ""},
		{"white space around it", "\n  " + good + "\n", ""},
		{"empty", "", "keyset: empty"},
		{"white space only", " \n", "keyset: empty"},
		{"a passphrase", "correct horse battery staple", "keyset: neither JSON nor base64"},
		{"base64 of something else", "c2VjcmV0IHBhc3NwaHJhc2U=", "keyset: not a Tink keyset"},
		{"base64 cut short", good[:len(good)/2&^3], "keyset: not a Tink keyset"},
		{"JSON of something else", `{"secret": "passphrase"}`, "keyset: not a Tink keyset"},
		{"JSON without keys", `{}`, "keyset: not a Tink keyset"},
		{"a primary key that is not there", `{"primaryKeyId": 7, "key": []}`, "keyset: not a Tink keyset"},
		{"keys for MACs", of(mac.HMACSHA256Tag256KeyTemplate()), "key 1 of 1 is not AES256-GCM"},
		{"AES128-GCM", of(aead.AES128GCMKeyTemplate()), "key 1 of 1 is not AES256-GCM"},
		{"AES256-GCM without the prefix that holds the key's id", of(aead.AES256GCMNoPrefixKeyTemplate()), "key 1 of 1 is not AES256-GCM"},
		{"a right primary beside a wrong key", serialize(t, mixed), "key 1 of 2 is not AES256-GCM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k, err := ParseKeyset(tt.serialized)
			if tt.wantErr == "" {
				if err != nil || k == nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatalf("accepted, want %q", tt.wantErr)
			}
			if !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("got %q, want %q", err, tt.wantErr)
			}
		})
	}
}

// FuzzParseKeyset: nothing panics, and no error depends on what was given beyond
// the few fixed sentences, so none can quote it.
func FuzzParseKeyset(f *testing.F) {
	good, err := NewKeyset()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(`{"primaryKeyId":7,"key":[{"keyData":{"typeUrl":"x","value":"AA==","keyMaterialType":"SYMMETRIC"},"status":"ENABLED","keyId":7,"outputPrefixType":"TINK"}]}`)
	f.Add("{")
	f.Fuzz(func(t *testing.T, serialized string) {
		k, err := ParseKeyset(serialized)
		if (k == nil) == (err == nil) {
			t.Fatalf("keyset %v, error %v", k, err)
		}
		if err != nil && len(err.Error()) > 100 {
			t.Errorf("error of %d characters", len(err.Error()))
		}
	})
}
