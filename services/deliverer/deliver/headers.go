package deliver

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cardwire/cardwire/services/internal/signing"
)

// headerLines writes a header as lines in order of their names, as far as they fit.
func headerLines(h http.Header) []byte {
	names := make([]string, 0, 16)
	size := 0
	for name, values := range h {
		names = append(names, name)
		for _, value := range values {
			size += len(name) + len(value) + len(": \n")
		}
	}
	slices.Sort(names)
	b := make([]byte, 0, min(size, maxResponseHeaders))
	for _, name := range names {
		for _, value := range h[name] {
			if len(b)+len(name)+len(value)+len(": \n") > maxResponseHeaders {
				return b
			}
			b = append(append(append(append(b, name...), ": "...), value...), '\n')
		}
	}
	return b
}

// sentLines writes the header of a request as the log keeps it: as headerLines
// does, with the length that net/http adds, and of each signature its scheme
// and how many there are: whoever reads the log must not be able to send the
// POST again while its timestamp is fresh.
func sentLines(r *http.Request) []byte {
	values := [...]string{strconv.FormatInt(r.ContentLength, 10), countSignatures(r.Header.Get(signing.HeaderSignature)), "sha256=…"}
	h := make(http.Header, len(r.Header)+1)
	maps.Copy(h, r.Header)
	h["Content-Length"] = values[0:1]
	h[signing.HeaderSignature] = values[1:2]
	h[signing.HeaderDevCard] = values[2:3]
	return headerLines(h)
}

// countSignatures writes "v1,a v1,b v1a,c" as "v1,… (2) v1a,… (1)". Signatures of
// a scheme stand together.
func countSignatures(signatures string) string {
	var b []byte
	last, n := "", 0
	flush := func() {
		if n > 0 {
			b = fmt.Appendf(b, "%s,… (%d) ", last, n)
		}
	}
	for item := range strings.FieldsSeq(signatures) {
		scheme, _, _ := strings.Cut(item, ",")
		if scheme != last {
			flush()
			last, n = scheme, 0
		}
		n++
	}
	flush()
	return string(bytes.TrimSpace(b))
}
