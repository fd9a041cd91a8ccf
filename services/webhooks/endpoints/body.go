package endpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep a request's JSON may nest. Ours nest two deep.
const maxDepth = 8

// checkJSON says what is wrong with a body before a schema is held against it:
// encoding/json would take trailing duplicates of a member, repair broken
// Unicode silently, and recurse as deep as it is told. The error is an
// *invalidError. A body is one JSON object in UTF-8, nested at most maxDepth,
// no object of which has a member twice, and no string a NUL.
func checkJSON(body []byte) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return invalid("body", "must be a JSON object, not empty")
	}
	if !utf8.Valid(body) {
		return invalid("body", "must be UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	first, err := d.Token()
	if err != nil {
		return notJSON(err)
	}
	if first != json.Delim('{') {
		return invalid("body", "must be a JSON object")
	}
	if err := checkObject(d, 1); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("body", "must be one JSON object, with nothing after it")
	}
	return nil
}

// checkObject reads the rest of an object whose bracket was read.
func checkObject(d *json.Decoder, depth int) error {
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return notJSON(err)
		}
		name, _ := token.(string) // the decoder allows nothing else here
		if err := checkString(name); err != nil {
			return err
		}
		if seen[name] {
			return invalid("body", fmt.Sprintf("has the member %s twice", quoted(name)))
		}
		seen[name] = true
		if err := checkValue(d, depth); err != nil {
			return err
		}
	}
	return closing(d)
}

func checkArray(d *json.Decoder, depth int) error {
	for d.More() {
		if err := checkValue(d, depth); err != nil {
			return err
		}
	}
	return closing(d)
}

// checkValue reads one value inside something that is nested depth deep.
func checkValue(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return notJSON(err)
	}
	switch v := token.(type) {
	case string:
		return checkString(v)
	case json.Number:
		if _, err := v.Float64(); err != nil { // encoding/json would give up, and not say at which member
			return invalid("body", "must not contain numbers beyond 1.8e308")
		}
	case json.Delim:
		if depth == maxDepth {
			return invalid("body", "must be nested at most "+strconv.Itoa(maxDepth)+" deep")
		}
		if v == '{' {
			return checkObject(d, depth+1)
		}
		return checkArray(d, depth+1)
	}
	return nil
}

func checkString(s string) error {
	switch {
	case strings.ContainsRune(s, 0):
		return invalid("body", "must not contain NUL characters")
	case strings.ContainsRune(s, utf8.RuneError): // what the decoder makes of half a surrogate pair
		return invalid("body", "must be valid Unicode, without lone surrogates")
	}
	return nil
}

func closing(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return notJSON(err)
	}
	return nil
}

// notJSON says where the JSON ends to be such. The decoder's own words would
// quote the body.
func notJSON(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return invalid("body", fmt.Sprintf("must be JSON, which it is not near byte %d", syntax.Offset))
	default:
		return invalid("body", "must be JSON, and ends too early")
	}
}

// quoted is what a stranger wrote, bounded and escaped.
func quoted(s string) string {
	if runes := []rune(s); len(runes) > maxFieldRunes {
		s = string(runes[:maxFieldRunes]) + "…"
	}
	return strconv.Quote(s)
}
