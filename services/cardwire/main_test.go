package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/cardwire/demo"
	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// asCommand makes the test's program behave as the command itself.
const asCommand = "CARDWIRE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(pgtest.Main(m))
}

// await is how long anything may take, on a machine that does much else.
const await = time.Minute

// A program is a run of the command.
type program struct {
	t   *testing.T
	cmd *exec.Cmd

	mu      sync.Mutex
	changed *sync.Cond
	text    string
	over    bool
}

// command runs the command with nothing of the environment but what finds
// programs, and returns at once.
func command(t *testing.T, args ...string) *program {
	t.Helper()
	return commandIn(t, nil, args...)
}

// commandIn is command with some of the environment.
func commandIn(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(os.Args[0], args...)}
	p.changed = sync.NewCond(&p.mu)
	p.cmd.Env = append([]string{asCommand + "=1"}, env...)
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "PG_BIN", "GORACE"} {
		if v, ok := os.LookupEnv(name); ok {
			p.cmd.Env = append(p.cmd.Env, name+"="+v)
		}
	}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // the code is in ProcessState
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
		p.changed.Broadcast()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-exited
	})
	return p
}

// Write takes what the program prints.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text += string(b)
	p.changed.Broadcast()
	return len(b), nil
}

// until waits for something to be so; it is asked when the program has printed or ended.
func (p *program) until(what string, so func(text string, over bool) bool) {
	p.t.Helper()
	late := false
	timer := time.AfterFunc(await, func() {
		p.mu.Lock()
		late = true
		p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !so(p.text, p.over) {
		if late || p.over {
			p.t.Fatalf("%s: waited in vain; it printed:\n%s", what, p.text)
		}
		p.changed.Wait()
	}
}

// prints waits until the program has printed what matches, and forgets all up
// to that. It returns the match and its groups.
func (p *program) prints(pattern string) (groups []string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	p.until("to print "+pattern, func(text string, _ bool) bool {
		at := re.FindStringSubmatchIndex(text)
		if at == nil {
			return false
		}
		groups = re.FindStringSubmatch(text)
		p.text = text[at[1]:]
		return true
	})
	return groups
}

// ends waits until the program has ended and returns its exit code, -1 if a
// signal ended it, and what it printed last.
func (p *program) ends() (code int, last string) {
	p.t.Helper()
	p.until("to end", func(text string, over bool) bool { last = text; return over })
	return p.cmd.ProcessState.ExitCode(), last
}

func (p *program) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// A running is a cardwire dev that is up.
type running struct {
	*program
	url, token string // token of alice
}

// startDev starts cardwire dev on free ports and waits until it is up.
func startDev(t *testing.T, data string, args ...string) running {
	t.Helper()
	args = append([]string{"dev", "--addr=127.0.0.1:0", "--nats-port=-1", "--nats-conf=" + natstest.ConfigFile(t), "--data=" + data}, args...)
	r := running{program: command(t, args...)}
	g := r.prints(`(?s)profile +(http://127\.0\.0\.1:\d+)/api/u/alice\n.*  token[^\n]*\n +(\S+)\n`)
	r.url, r.token = g[1], g[2]
	return r
}

// do makes a request with alice's token and returns the answer's body.
func (r running) do(method, path, body string, want int) []byte {
	r.t.Helper()
	return request(r.t, method, r.url+path, r.token, body, want)
}

func request(t *testing.T, method, url, token, body string, want int) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Fatalf("%s %s: %d, want %d: %s", method, url, resp.StatusCode, want, got)
	}
	return got
}

// view looks at alice's profile, as nobody in particular.
func (r running) view() {
	r.t.Helper()
	request(r.t, http.MethodGet, r.url+"/api/u/alice", "", "", http.StatusOK)
}

// dataDir is a data directory that PostgreSQL can reach when root runs the test.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "data")
}

const viewed = `card\.viewed  \S+  \{"cardId":null,"viewerId":null,"username":"alice","source":"link"\}  signatures ok  `

func TestDev(t *testing.T) {
	t.Parallel()
	data := dataDir(t)
	r := startDev(t, data)
	r.view()
	r.prints(viewed + "204\n")

	for _, path := range []string{"/healthz", "/readyz", "/docs", "/api/u/alice/card/" + demo.AliceCard.String(), "/api/u/bob"} {
		request(t, http.MethodGet, r.url+path, "", "", http.StatusOK)
	}
	r.prints(`card\.viewed  \S+  \{"cardId":"` + demo.AliceCard.String() + `".*"source":"qr"\}  signatures ok  204\n`)

	_, printed := command(t, "token", "--user=bob", "--data="+data).ends()
	request(t, http.MethodPost, r.url+"/api/cards/"+demo.AliceCard.String()+"/save", strings.TrimSpace(printed), "", http.StatusCreated)
	r.prints(`contact\.saved  \S+  \{.*"savedBy":"` + demo.Bob.String() + `".*\}  signatures ok  204\n`)

	// A rotated secret is no trouble, nor is an endpoint of one's own.
	endpoint := "/api/webhooks/" + demo.Endpoint.String()
	r.do(http.MethodPatch, endpoint+"/rotate-secret", "", http.StatusOK)
	r.view()
	r.prints(viewed + "204\n")
	r.do(http.MethodPost, "/api/webhooks", `{"url":"`+r.url+`/sample-receiver?status=500","events":["card.viewed"]}`, http.StatusCreated)
	r.view()
	r.prints(viewed + "500\n")

	// Nobody else gets the directory, the address or the broker's port meanwhile.
	code, last := command(t, "dev", "--addr=127.0.0.1:0", "--data="+data).ends()
	if code != 1 || !strings.Contains(last, "used by another cardwire dev") {
		t.Errorf("a second one on the same directory: exit code %d:\n%s", code, last)
	}
	addr := strings.TrimPrefix(r.url, "http://")
	code, last = command(t, "dev", "--addr="+addr, "--data="+t.TempDir()).ends()
	if code != 1 || !strings.Contains(last, "address "+addr+" is taken") {
		t.Errorf("a second one on the same address: exit code %d:\n%s", code, last)
	}

	r.signal(os.Interrupt)
	if code, last := r.ends(); code != 0 || !strings.HasSuffix(last, "Stopped.\n") {
		t.Fatalf("after Ctrl-C: exit code %d:\n%s", code, last)
	}
	if _, err := os.Stat(filepath.Join(data, "postgres", "data", "postmaster.pid")); !os.IsNotExist(err) {
		t.Errorf("PostgreSQL has not stopped cleanly: %v", err)
	}

	// On another port the demo's endpoint leads there; its log has grown on.
	r = startDev(t, data)
	r.view()
	r.prints(viewed + "204\n")
	r.do(http.MethodDelete, endpoint, "", http.StatusNoContent)
	r.signal(syscall.SIGTERM)
	if code, _ := r.ends(); code != 0 {
		t.Errorf("after SIGTERM: exit code %d", code)
	}
	r = startDev(t, data)
	r.prints(`The demo endpoint was deleted`)
}

// TestDevCutOff ends it in ways that leave it no time.
func TestDevCutOff(t *testing.T) {
	t.Parallel()
	data := dataDir(t)
	r := startDev(t, data)

	arrived, release := make(chan struct{}, 10), make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	defer hanging.Close()
	defer close(release)
	r.do(http.MethodPost, "/api/webhooks", `{"url":"`+hanging.URL+`","events":["card.viewed"]}`, http.StatusCreated)
	r.view()
	<-arrived
	r.signal(os.Interrupt)
	r.prints("Stopping")
	r.signal(os.Interrupt)
	if code, _ := r.ends(); code != 130 {
		t.Errorf("after two Ctrl-C: exit code %d", code)
	}

	for range 2 {
		r = startDev(t, data)
		r.view()
		r.prints(viewed + "204\n")
		r.signal(os.Kill)
		r.ends()
	}
}

// TestDevOnDatabaseURL uses a PostgreSQL that is there, and leaves alone what is in it.
func TestDevOnDatabaseURL(t *testing.T) {
	t.Parallel()
	data, url := t.TempDir(), pgtest.URL(t)
	r := startDev(t, data, "--database-url="+url)
	r.view()
	r.prints(viewed + "204\n")
	r.signal(os.Interrupt)
	r.ends()
	if _, err := os.Stat(filepath.Join(data, "postgres")); !os.IsNotExist(err) {
		t.Errorf("it started a PostgreSQL of its own: %v", err)
	}
}

func TestDevRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // when the parallel rows have ended
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"a taken broker port: the flag is named":      {[]string{"--nats-port=" + port}, "--nats-port"},
		"a database that is not there: no password":   {[]string{"--database-url=postgres://u:hush@127.0.0.1:1/x", "--nats-port=-1"}, "DATABASE_URL: "},
		"a broker configuration that is not there":    {[]string{"--nats-conf=nowhere.conf"}, "nowhere.conf"},
		"a data directory that is a file":             {[]string{"--data=main.go"}, "make data directory"},
		"an address that endpoints could not lead to": {[]string{"--addr=127.0.0.1"}, "missing port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"dev", "--addr=127.0.0.1:0", "--nats-conf=" + natstest.ConfigFile(t), "--data=" + t.TempDir()}, tc.args...)
			p := command(t, args...)
			code, last := p.ends()
			if code != 1 || !strings.Contains(last, tc.want) || strings.Contains(last, "hush") {
				t.Errorf("exit code %d:\n%s", code, last)
			}
		})
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	const secret = "a secret of at least thirty-two bytes"
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "secrets", "JWT_SECRET"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.New(auth.Config{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	carol := uuid.New()
	for name, tc := range map[string]struct {
		args []string
		want uuid.UUID // nil: exit code 1
	}{
		"a demo user":                         {[]string{"--user=alice"}, demo.Alice},
		"a user's id":                         {[]string{"--user=" + carol.String(), "--ttl=5m"}, carol},
		"a username, and no database":         {[]string{"--user=carol"}, uuid.Nil},
		"a life of nothing":                   {[]string{"--user=alice", "--ttl=0s"}, uuid.Nil},
		"a directory in which nothing is yet": {[]string{"--user=alice", "--data=" + t.TempDir()}, uuid.Nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, printed := command(t, append([]string{"token", "--data=" + data}, tc.args...)...).ends()
			if tc.want == uuid.Nil {
				if code != 1 {
					t.Errorf("exit code %d: %s", code, printed)
				}
				return
			}
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Authorization", "Bearer "+strings.TrimSuffix(printed, "\n"))
			if id, err := verifier.User(r); err != nil || id != tc.want || code != 0 {
				t.Errorf("user %v, %v, exit code %d: %s", id, err, code, printed)
			}
		})
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	code, last := command(t, "migrate", "--database-url="+pgtest.URL(t)).ends()
	line := last[strings.LastIndex(strings.TrimSpace(last), "\n")+1:]
	if code != 0 || !json.Valid([]byte(line)) || !strings.Contains(line, "up to date") {
		t.Errorf("exit code %d: %s", code, last)
	}
	if code, last := command(t, "migrate", "--database-url=postgres://u:hush@127.0.0.1:1/x").ends(); code != 1 || strings.Contains(last, "hush") {
		t.Errorf("without a database: exit code %d: %s", code, last)
	}
}
