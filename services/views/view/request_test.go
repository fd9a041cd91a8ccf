package view

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseUsername(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in, want string
		ok             bool
	}{
		{"plain", "alice", "alice", true},
		{"upper case is lowered", "ALICE-2_x", "alice-2_x", true},
		{"39 bytes are the most", strings.Repeat("a", 39), strings.Repeat("a", 39), true},
		{"40 bytes are too many", strings.Repeat("a", 40), "", false},
		{"empty", "", "", false},
		{"begins with a dash", "-alice", "", false},
		{"begins with an underscore", "_alice", "", false},
		{"the Kelvin sign is no k", "\u212Aelvin", "", false},
		{"NUL", "ali\x00ce", "", false},
		{"invalid UTF-8", "ali\xffce", "", false},
		{"quote", "alice'--", "", false},
		{"space", "alice ", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := parseUsername(tt.in)
			if got != tt.want || ok != tt.ok {
				t.Errorf("parseUsername(%q) = %q, %v; want %q, %v", tt.in, got, ok, tt.want, tt.ok)
			}
		})
	}
}

// What parseUsername takes is what the table users takes.
func TestParseUsernameAgreesWithTheTable(t *testing.T) {
	t.Parallel()
	inTable := regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,38}$`)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-zA-Z0-9_-]{0,41}`)).Draw(t, "username")
		lower := strings.Map(func(r rune) rune {
			if r >= 'A' && r <= 'Z' {
				return r + 'a' - 'A'
			}
			return r
		}, s)
		got, ok := parseUsername(s)
		if ok != inTable.MatchString(lower) || ok && got != lower {
			t.Fatalf("parseUsername(%q) = %q, %v", s, got, ok)
		}
	})
}

func TestParseCardID(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in, want string
	}{
		{"plain", "00000000-0000-7000-8000-0000000000c1", "00000000-0000-7000-8000-0000000000c1"},
		{"upper case", "00000000-0000-7000-8000-0000000000C1", "00000000-0000-7000-8000-0000000000c1"},
		{"in braces", "{00000000-0000-7000-8000-0000000000c1}", ""},
		{"as URN", "urn:uuid:00000000-0000-7000-8000-0000000000c1", ""},
		{"without dashes", "000000000000700080000000000000c1", ""},
		{"a number", "42", ""},
		{"nil", "00000000-0000-0000-0000-000000000000", ""},
		{"empty", "", ""},
		{"36 bytes of something else", strings.Repeat("z", 36), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseCardID(tt.in)
			if (err == nil) != (tt.want != "") || err == nil && got.String() != tt.want {
				t.Errorf("parseCardID(%q) = %v, %v; want %q", tt.in, got, err, tt.want)
			}
		})
	}
}

func TestParseSource(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, query, want string
		err               error
	}{
		{"no query", "", "link", nil},
		{"another parameter", "utm=x", "link", nil},
		{"given", "source=nfc_tag-2", "nfc_tag-2", nil},
		{"32 bytes are the most", "source=" + strings.Repeat("s", 32), strings.Repeat("s", 32), nil},
		{"33 bytes are too many", "source=" + strings.Repeat("s", 33), "", errSource},
		{"empty", "source=", "", errSource},
		{"without a value", "source", "", errSource},
		{"upper case", "source=QR", "", errSource},
		{"given twice", "source=qr&source=link", "", errSource},
		{"newline", "source=q%0Ar", "", errSource},
		{"NUL", "source=%00", "", errSource},
		{"not ASCII", "source=%C3%A9", "", errSource},
		{"broken escape", "source=%zz", "", errQuery},
		{"semicolon", "a=1;source=qr", "", errQuery},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseSource(tt.query, "link")
			if got != tt.want || err != tt.err {
				t.Errorf("parseSource(%q) = %q, %v; want %q, %v", tt.query, got, err, tt.want, tt.err)
			}
		})
	}
}
