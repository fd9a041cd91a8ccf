package webjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

// routes is a mux with one route of each kind that matters here.
func routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /things/{id}", func(w http.ResponseWriter, r *http.Request) {
		Write(w, http.StatusOK, map[string]string{"id": r.PathValue("id")})
	})
	mux.HandleFunc("POST /things", func(w http.ResponseWriter, r *http.Request) {
		if body, ok := ReadBody(w, r, 10); ok {
			Write(w, http.StatusCreated, len(body))
		}
	})
	mux.HandleFunc("POST /greedy", func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		var tooLarge *http.MaxBytesError
		Write(w, http.StatusOK, errors.As(err, &tooLarge))
	})
	mux.Handle("POST /large", WithBodyLimit(2*MaxBodyBytes, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, ok := ReadBody(w, r, 2*MaxBodyBytes); ok {
			Write(w, http.StatusOK, len(body))
		}
	})))
	mux.HandleFunc("GET /panic/{id}", func(http.ResponseWriter, *http.Request) { panic("the value " + strings.Repeat("\n", 1000)) })
	mux.HandleFunc("GET /panic-late", func(w http.ResponseWriter, _ *http.Request) {
		Write(w, http.StatusOK, "half")
		panic("late")
	})
	mux.HandleFunc("GET /panic-flushed", func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		panic("late")
	})
	mux.HandleFunc("GET /abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("GET /unencodable", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Content-Length", "3")
		Write(w, http.StatusOK, func() {})
	})
	return mux
}

func TestHandler(t *testing.T) {
	t.Parallel()
	long := "/things/" + strings.Repeat("a", MaxURLBytes-len("/things/"))
	tests := []struct {
		name, method, uri, body string
		chunked                 bool // the length of body is not declared
		status                  int
		answer                  string // JSON if status is below 400, else the sentence
		allow                   string
	}{
		{name: "a route", method: "GET", uri: "/things/7", status: 200, answer: `{"id":"7"}`},
		{name: "HEAD of a route", method: "HEAD", uri: "/things/7", status: 200},
		{name: "unknown path", method: "GET", uri: "/nothing", status: 404, answer: "there is nothing here"},
		{name: "unknown path that is not clean: no redirect", method: "GET", uri: "//nothing/../x", status: 404, answer: "there is nothing here"},
		{name: "the root", method: "GET", uri: "/", status: 404, answer: "there is nothing here"},
		{name: "a slash too many", method: "GET", uri: "/things/7/", status: 404, answer: "there is nothing here"},
		{name: "wrong method", method: "DELETE", uri: "/things/7", status: 405, answer: "this method is not allowed here", allow: "GET, HEAD"},
		{name: "a method nobody knows", method: "BREW", uri: "/things", status: 405, answer: "this method is not allowed here", allow: "POST"},
		{name: "the server as such", method: "OPTIONS", uri: "*", status: 400, answer: "url: must be a path"},
		{name: "URL as long as it may be", method: "GET", uri: long, status: 200},
		{name: "URL too long", method: "GET", uri: long + "a", status: 414, answer: "url: must be at most 8192 bytes"},
		{name: "query too long", method: "GET", uri: "/things/7?" + strings.Repeat("a", MaxURLBytes), status: 414, answer: "url: must be at most 8192 bytes"},
		{name: "unknown path, too long", method: "GET", uri: "/" + strings.Repeat("a", MaxURLBytes), status: 414, answer: "url: must be at most 8192 bytes"},
		{name: "body as long as the route takes", method: "POST", uri: "/things", body: "0123456789", status: 201, answer: "10"},
		{name: "body over the route's limit", method: "POST", uri: "/things", body: "0123456789a", status: 413, answer: "body: must be at most 10 bytes"},
		{name: "body over the route's limit, chunked", method: "POST", uri: "/things", body: "0123456789a", chunked: true, status: 413, answer: "body: must be at most 10 bytes"},
		{name: "body over everybody's limit", method: "POST", uri: "/greedy", body: strings.Repeat("a", MaxBodyBytes+1), status: 413, answer: "body: must be at most 1048576 bytes"},
		{name: "body over everybody's limit, chunked: reading it fails", method: "POST", uri: "/greedy", body: strings.Repeat("a", MaxBodyBytes+1), chunked: true, status: 200, answer: "true"},
		{name: "body at everybody's limit", method: "POST", uri: "/greedy", body: strings.Repeat("a", MaxBodyBytes), status: 200, answer: "false"},
		{name: "a larger body where the route takes it", method: "POST", uri: "/large", body: strings.Repeat("a", 2*MaxBodyBytes), status: 200, answer: "2097152"},
		{name: "body over the limit of such a route", method: "POST", uri: "/large", body: strings.Repeat("a", 2*MaxBodyBytes+1), status: 413, answer: "body: must be at most 2097152 bytes"},
		{name: "body over the limit of such a route, chunked", method: "POST", uri: "/large", body: strings.Repeat("a", 2*MaxBodyBytes+1), chunked: true, status: 413, answer: "body: must be at most 2097152 bytes"},
		{name: "a larger body for a path that is none", method: "POST", uri: "/nothing", body: strings.Repeat("a", MaxBodyBytes+1), status: 413, answer: "body: must be at most 1048576 bytes"},
		{name: "panic", method: "GET", uri: "/panic/secret", status: 500, answer: "something went wrong on our side"},
		{name: "an answer that can't be encoded", method: "GET", uri: "/unencodable", status: 500, answer: "something went wrong on our side"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var body io.Reader = strings.NewReader(tt.body)
			if tt.chunked {
				body = io.MultiReader(body)
			}
			r := httptest.NewRequest(tt.method, tt.uri, body)
			w := httptest.NewRecorder()
			Handler(routes(), zerolog.Nop()).ServeHTTP(w, r)
			if w.Code != tt.status || w.Header().Get("Allow") != tt.allow {
				t.Fatalf("status %d, Allow %q, body %s", w.Code, w.Header().Get("Allow"), w.Body)
			}
			if tt.status < 400 {
				if got := strings.TrimSpace(w.Body.String()); tt.answer != "" && got != tt.answer {
					t.Errorf("answer %s, want %s", got, tt.answer)
				}
				return
			}
			want := Problem{http.StatusText(tt.status), tt.status, tt.answer, tt.answer}
			checkProblem(t, w, want)
			if w.Header().Get("Etag") != "" {
				t.Error("the error carries an ETag")
			}
		})
	}
}

func checkProblem(t *testing.T, w *httptest.ResponseRecorder, want Problem) {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	var got Problem
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
}

func TestProblemAsJSON(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	WriteError(w, http.StatusConflict, `name: "<b>" is taken`)
	want := `{"title":"Conflict","status":409,"detail":"name: \"\u003cb\u003e\" is taken","error":"name: \"\u003cb\u003e\" is taken"}` + "\n"
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Error(diff)
	}
	if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options is %q", got)
	}
	var err error = NewProblem(http.StatusConflict, "taken")
	var p *Problem
	if !errors.As(err, &p) || err.Error() != "taken" || p.GetStatus() != 409 || p.ContentType("application/json") != problemType {
		t.Errorf("as an error: %v", err)
	}
}

func TestBodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "/things", io.MultiReader(strings.NewReader("{"), breaks{}))
	w := httptest.NewRecorder()
	Handler(routes(), zerolog.Nop()).ServeHTTP(w, r)
	const sentence = "body: ended before it was complete"
	checkProblem(t, w, Problem{"Bad Request", 400, sentence, sentence})
}

type breaks struct{}

func (breaks) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestPanicIsOneBoundedErrorLine(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := httptest.NewRequest("GET", "/panic/written-by-a-stranger?q=also", nil)
	Handler(routes(), zerolog.New(&log)).ServeHTTP(httptest.NewRecorder(), r)
	if n := bytes.Count(log.Bytes(), []byte("\n")); n != 1 {
		t.Fatalf("%d lines: %s", n, &log)
	}
	var line struct{ Level, Message, Pattern, Panic, Stack string }
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line.Level != "error" || line.Message != "request panicked" || line.Pattern != "GET /panic/{id}" {
		t.Errorf("logged %s: %s, pattern %s", line.Level, line.Message, line.Pattern)
	}
	if !strings.HasPrefix(line.Panic, "the value \n") || len(line.Panic) != maxPanicBytes {
		t.Errorf("panic is %q", line.Panic)
	}
	if !strings.Contains(line.Stack, "handler_test.go") || len(line.Stack) > maxStackBytes {
		t.Errorf("stack of %d bytes: %s", len(line.Stack), line.Stack)
	}
	if strings.Contains(log.String(), "stranger") {
		t.Errorf("the URL as written is in the log: %s", &log)
	}
}

func TestPanicAfterTheAnswerBeganCutsTheConnection(t *testing.T) {
	t.Parallel()
	for path, lines := range map[string]int{"/panic-late": 1, "/panic-flushed": 1, "/abort": 0} {
		var log bytes.Buffer
		h := Handler(routes(), zerolog.New(&log))
		func() {
			defer func() {
				if v := recover(); v != http.ErrAbortHandler { // net/http compares it like this
					t.Errorf("%s: panicked with %v, want http.ErrAbortHandler", path, v)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		}()
		if n := bytes.Count(log.Bytes(), []byte("\n")); n != lines {
			t.Errorf("%s: %d lines logged, want %d", path, n, lines)
		}
	}
}

func TestHandlerOverARealConnection(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(Handler(routes(), zerolog.Nop()))
	t.Cleanup(srv.Close)
	for path, want := range map[string]string{
		"/panic/1":     "500 application/problem+json",
		"/things/1":    "200 application/json",
		"/nothing":     "404 application/problem+json",
		"//things//1":  "200 application/json", // a route whose path is not clean: net/http's redirect
		"/panic-late":  "cut",
		"/abort":       "cut",
		"/unencodable": "500 application/problem+json",
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := "cut"
		if resp, err := srv.Client().Do(r); err == nil {
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				got = fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Type"))
			}
			_ = resp.Body.Close()
		}
		if got != want {
			t.Errorf("GET %s: %s, want %s", path, got, want)
		}
	}
}

// FuzzHandler: whatever the URL and method, the answer is JSON of ours and nothing
// panics.
func FuzzHandler(f *testing.F) {
	f.Add("GET", "/things/%00")
	f.Add("BREW", "//things/../..%2f")
	f.Add("CONNECT", "/x")
	f.Fuzz(func(t *testing.T, method, uri string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://host"+uri, nil)
		if err != nil || strings.HasPrefix(req.URL.Path, "/panic") || req.URL.Path == "/abort" || req.URL.Path == "/unencodable" {
			t.Skip("not a request, or one that panics on purpose")
		}
		req.RequestURI = uri
		w := httptest.NewRecorder()
		Handler(routes(), zerolog.Nop()).ServeHTTP(w, req)
		if w.Code >= 400 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q: %d %s", method, uri, w.Code, w.Body)
		}
	})
}
