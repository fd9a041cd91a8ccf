package signing

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"
)

func publicKeys(t *testing.T, texts ...string) (keys []ed25519.PublicKey) {
	t.Helper()
	for _, text := range texts {
		key, err := ParsePublicKey(text)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

func TestAKeyPairComesBackFromItsSeed(t *testing.T) {
	t.Parallel()
	key := NewKeyPair()
	again, err := KeyPair(key.Seed())
	if err != nil {
		t.Fatal(err)
	}
	if !again.Equal(key) || NewKeyPair().Equal(key) {
		t.Error("another pair, or the same pair twice")
	}
	text := PublicKey(key)
	if got := publicKeys(t, text)[0]; !got.Equal(key.Public()) || PublicText(got) != text {
		t.Errorf("%s stands for another key", text)
	}
	for _, n := range []int{0, 31, 33, 64} {
		if _, err := KeyPair(make([]byte, n)); err == nil {
			t.Errorf("a seed of %d bytes was taken", n)
		}
	}
}

func TestParsePublicKeyRefusesWhatIsNone(t *testing.T) {
	t.Parallel()
	encode := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for name, text := range map[string]string{
		"empty":                  "",
		"no prefix":              encode(32),
		"a secret":               "whsec_" + encode(32),
		"nothing but a prefix":   "whpk_",
		"too short":              "whpk_" + encode(31),
		"too long":               "whpk_" + encode(33),
		"no base64":              "whpk_" + strings.Repeat("*", 44),
		"base64 of URLs":         "whpk_" + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 32)),
		"no padding":             "whpk_" + strings.TrimRight(encode(32), "="),
		"two spellings of a key": "whpk_" + encode(32)[:42] + "B=",
	} {
		if key, err := ParsePublicKey(text); err == nil {
			t.Errorf("%s: %q is %v", name, text, key)
		}
	}
}

func TestVerifyPublic(t *testing.T) {
	t.Parallel()
	const id = "0192f0c1-2b3c-7d4e-8f50-112233445566"
	var (
		at            = time.Unix(1754000000, 0)
		body          = []byte(`{"type":"card.viewed"}`)
		newest, older = NewKeyPair(), NewKeyPair()
		stranger      = PublicKey(NewKeyPair())
		first, second = PublicKey(newest), PublicKey(older)
		unknown       = "no signature by a known key"
	)
	for _, tt := range []struct {
		name    string
		change  func(h http.Header)
		keys    []string
		now     time.Time
		wantErr string
	}{
		{name: "the receiver has the newest key", keys: []string{first}, now: at},
		{name: "the receiver has the older key", keys: []string{second}, now: at},
		{name: "the receiver has a key that is not ours besides", keys: []string{stranger, second}, now: at},
		{name: "the receiver has another key", keys: []string{stranger}, now: at, wantErr: unknown},
		{name: "the receiver has no key", now: at, wantErr: unknown},
		{name: "the timestamp is too old", keys: []string{first}, now: at.Add(Tolerance + 1), wantErr: "webhook-timestamp is more than"},
		{name: "another id", change: set(HeaderID, "other"), keys: []string{first}, now: at, wantErr: unknown},
		{name: "another timestamp", change: set(HeaderTimestamp, "1754000001"), keys: []string{first}, now: at, wantErr: unknown},
		{name: "no id", change: set(HeaderID, ""), keys: []string{first}, now: at, wantErr: "is missing"},
		{name: "the signature under another version", change: replace(HeaderSignature, "v1a,", "v1,"), keys: []string{first}, now: at, wantErr: unknown},
		{name: "signatures that are no base64", change: replace(HeaderSignature, "v1a,", "v1a,*"), keys: []string{first}, now: at, wantErr: unknown},
		{name: "a signature cut short", change: set(HeaderSignature, "v1a,AAAA"), keys: []string{first}, now: at, wantErr: unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, err := Headers(id, at, body, []string{NewSecret()}, newest, older)
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				tt.change(h)
			}
			err = VerifyPublic(h, body, publicKeys(t, tt.keys...), tt.now, Tolerance)
			if tt.wantErr == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("got %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestTheSignaturesOfKeysLeaveTheOthersAlone(t *testing.T) {
	t.Parallel()
	at, body, secret := time.Unix(1754000000, 0), []byte("{}"), []string{NewSecret()}
	without, err := Headers("id", at, body, secret)
	if err != nil {
		t.Fatal(err)
	}
	with, err := Headers("id", at, body, secret, NewKeyPair())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(with.Get(HeaderSignature), without.Get(HeaderSignature)+" v1a,") || with.Get(HeaderDevCard) != without.Get(HeaderDevCard) {
		t.Errorf("without a key %v, with one %v", without, with)
	}
	if string(body) != "{}" {
		t.Errorf("the body was changed: %q", body)
	}
}
