package main

import (
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestEachFaultHasANameOfItsOwnAndPartsInOneOrder(t *testing.T) {
	t.Parallel()
	order := []string{viewsName, webhooksName, deliverer1, deliverer2, brokerName, postgresName, apiName}
	seen := make(map[string]bool)
	for _, f := range slices.Concat(faults(false), changes()) {
		if seen[f.name] || f.does == nil || len(f.parts) == 0 {
			t.Errorf("%q is there twice, or does nothing", f.name)
		}
		seen[f.name] = true
		last := -1
		for _, part := range f.parts { // else two faults could wait for each other
			i := slices.Index(order, part)
			if i <= last {
				t.Errorf("%q: parts %v are not in order", f.name, f.parts)
			}
			last = i
		}
	}
}

func TestASeedHasTheSameEndpointsEachTime(t *testing.T) {
	t.Parallel()
	hows := func(seed uint64) (list []behaviour) {
		r := &run{}
		if _, err := r.population(rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Fatal(err)
		}
		for _, target := range r.targets {
			list = append(list, target.how)
		}
		return list
	}
	if !slices.Equal(hows(1), hows(1)) || slices.Equal(hows(1), hows(2)) {
		t.Error("endpoints don't go by the seed")
	}
}

func TestAnswersOfReceivers(t *testing.T) {
	t.Parallel()
	at := time.Now()
	during := func(how behaviour) *target {
		target, err := newTarget(uuid.New(), how)
		if err != nil {
			t.Fatal(err)
		}
		target.from.Store(at.Add(-time.Second).UnixNano())
		target.to.Store(at.Add(time.Second).UnixNano())
		return target
	}
	for _, tt := range []struct {
		name string
		how  behaviour
		at   time.Time
		want int
	}{
		{"well: 204", well, at, 204},
		{"dead: 500", dead, at, 500},
		{"before its outage: 204", outage, at.Add(-time.Minute), 204},
		{"during its outage: no answer", outage, at, 0},
		{"after its outage: 204", outage, at.Add(time.Minute), 204},
		{"before it departs: 204", departs, at.Add(-time.Minute), 204},
		{"after it departed: 410", departs, at.Add(time.Minute), 410},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, _ := during(tt.how).answer(uuid.New(), 1, tt.at); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

// echo is a proxy to a server that sends back what it gets.
func echo(t *testing.T) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	p, err := newProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.close(); _ = l.Close() })
	p.lead("tcp", l.Addr().String())
	return p
}

// say sends a text and reads as much back.
func say(t *testing.T, c net.Conn, text string) error {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, len(text)))
	return err
}

func dial(t *testing.T, p *proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAProxyPassesOnUntilItIsTold(t *testing.T) {
	t.Parallel()
	p := echo(t)
	c := dial(t, p)
	if err := say(t, c, "hello"); err != nil {
		t.Fatal(err)
	}
	p.cut()
	if err := say(t, c, "hello"); err == nil {
		t.Error("a connection that was cut goes on")
	}
	c = dial(t, p)
	p.set(func(p *proxy) { p.tearing = true })
	if err := say(t, c, "no news"); err != nil {
		t.Errorf("what tells of no commit is torn: %v", err)
	}
	if err := say(t, c, "C\x00\x00\x00\x0bCOMMIT\x00"); err == nil {
		t.Error("the answer to a commit came through")
	}
	p.lead("", "")
	if err := say(t, dial(t, p), "hello"); err == nil {
		t.Error("it leads somewhere")
	}
}
