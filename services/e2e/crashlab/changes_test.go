package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/eventtypes"
	"github.com/cardwire/cardwire/services/internal/signing"
)

func TestAReceiverKnowsTheSecretsThatTheAPIAnswered(t *testing.T) {
	t.Parallel()
	to, err := newTarget(uuid.New(), well)
	if err != nil {
		t.Fatal(err)
	}
	newer, newest := signing.NewSecret(), signing.NewSecret()
	for want, secret := range []string{newer, newest} {
		if n, err := to.rotated(secret); n != want+1 || err != nil {
			t.Fatalf("secret %d, %v; want %d", n, err, want+1)
		}
	}
	for _, tt := range []struct {
		name    string
		secrets []string
		first   bool
		further []int
	}{
		{"signed with all three", []string{newest, newer, to.secret}, true, []int{1, 2}},
		{"signed before the rotations", []string{to.secret}, true, nil},
		{"signed after the first has ended", []string{newest, newer}, false, []int{1, 2}},
		{"signed with somebody else's", []string{signing.NewSecret()}, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			id, body := uuid.NewString(), []byte(`{}`)
			header, err := signing.Headers(id, time.Now(), body, tt.secrets)
			if err != nil {
				t.Fatal(err)
			}
			first, further := to.verify(body, header)
			if first != tt.first || !slices.Equal(further, tt.further) {
				t.Errorf("%v and %v, want %v and %v", first, further, tt.first, tt.further)
			}
		})
	}
}

func TestEndpointsCanAskForEachTypeOfTheLab(t *testing.T) {
	t.Parallel()
	path, err := eventTypes(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := eventtypes.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{common, rare, viewed} {
		if !slices.Contains(catalog.Subscribable(), name) {
			t.Errorf("%s can't be asked for", name)
		}
	}
}

func TestASeedDrawsTheSameEachTimeAndSomeSeedsHaveUsers(t *testing.T) {
	t.Parallel()
	names := func(seed uint64) (list []string) {
		for _, f := range drawn(rand.New(rand.NewPCG(seed, 1)), config{}) {
			list = append(list, f.name)
		}
		return list
	}
	busy := 0
	for seed := range uint64(100) {
		list := names(seed)
		if !slices.Equal(list, names(seed)) {
			t.Errorf("seed %d draws %v, and then others", seed, list)
		}
		if slices.ContainsFunc(changes(), func(f fault) bool { return slices.Contains(list, f.name) }) {
			busy++
		}
	}
	if busy < 50 || busy == 100 {
		t.Errorf("users change something in %d of 100 seeds", busy)
	}
}

func TestEachPointHasANameOfItsOwnAndAWayThere(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, p := range points() {
		if seen[p.name] || serviceNames[p.process] == "" || p.prepare == nil && p.lead == nil || p.repeats < 0 || p.repeats > 1 {
			t.Errorf("%q is there twice, or leads nowhere", p.name)
		}
		seen[p.name] = true
	}
}

func TestAFileIsWrittenWhole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "failpoint")
	for _, text := range []string{"deliver sent", "fanout stored"} {
		if err := writeWhole(path, text); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); string(got) != text || err != nil {
			t.Errorf("%q, %v; want %q", got, err, text)
		}
	}
}
