package deliver

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cardwire/cardwire/services/internal/signing"
)

// headerLines writes a header as lines in order of their names, as far as they fit.
func headerLines(h http.Header) []byte {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	for _, name := range names {
		for _, value := range h[name] {
			if b.Len()+len(name)+len(value)+3 > maxResponseHeaders {
				return b.Bytes()
			}
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	return b.Bytes()
}

// sentLines writes the header of a request as the log keeps it: as headerLines
// does, with the length that net/http adds, and of each signature its scheme
// and how many there are: whoever reads the log must not be able to send the
// POST again while its timestamp is fresh.
func sentLines(r *http.Request) []byte {
	h := make(http.Header, len(r.Header)+1)
	for name, values := range r.Header {
		h[name] = values
	}
	h["Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	h[signing.HeaderSignature] = []string{countSignatures(r.Header.Get(signing.HeaderSignature))}
	h[signing.HeaderDevCard] = []string{"sha256=…"}
	return headerLines(h)
}

// countSignatures writes "v1,a v1,b v1a,c" as "v1,… (2) v1a,… (1)".
func countSignatures(signatures string) string {
	var schemes []string
	counts := make(map[string]int, 2)
	for item := range strings.FieldsSeq(signatures) {
		scheme, _, _ := strings.Cut(item, ",")
		if counts[scheme] == 0 {
			schemes = append(schemes, scheme)
		}
		counts[scheme]++
	}
	for i, scheme := range schemes {
		schemes[i] = fmt.Sprintf("%s,… (%d)", scheme, counts[scheme])
	}
	return strings.Join(schemes, " ")
}
