package endpoints

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"maps"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed docs.html
var docsTemplate string

//go:embed docs.css
var docsStyle string

// nothing is a Content-Security-Policy under which a page may do nothing.
const nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// docsPage makes a page for people of an OpenAPI document, and the policy to
// serve it with: it runs no script and fetches nothing, its one style is named
// by its hash.
func docsPage(doc *huma.OpenAPI) (page []byte, policy string, err error) {
	t, err := template.New("docs").Parse(docsTemplate)
	if err != nil {
		return nil, "", err
	}
	d := docs{schemas: doc.Components.Schemas}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Style": template.CSS(docsStyle), "Title": doc.Info.Title, "Version": doc.Info.Version,
		"About":      strings.Split(doc.Info.Description, "\n\n"),
		"Auth":       doc.Components.SecuritySchemes,
		"Operations": d.operations(doc), "Schemas": d.shapes(),
	})
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256([]byte(docsStyle))
	return b.Bytes(), nothing + "; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'", nil
}

// docs turns a document into what the page shows.
type docs struct{ schemas huma.Registry }

type docsOperation struct {
	*huma.Operation
	Parameters []docsField
	Body       *docsBody
	Answers    []docsAnswer
}

type docsAnswer struct {
	Status string
	*huma.Response
	Body *docsBody
}

type docsBody struct{ Type, Link, MediaType, Example string }

type docsShape struct {
	Name   string
	Fields []docsField
}

type docsField struct {
	Name, In, Type, Link, Limits, Example, About string
	Required                                     bool
}

// operations lists a document's operations, by path and then in the order GET,
// POST, PATCH, DELETE.
func (d docs) operations(doc *huma.OpenAPI) []docsOperation {
	var list []docsOperation
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		item := doc.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			shown := docsOperation{Operation: op}
			for _, p := range op.Parameters {
				f := d.field(p.Name, p.Schema, p.Required)
				f.In, f.Example = p.In, strings.Trim(f.Example, `"`)
				shown.Parameters = append(shown.Parameters, f)
			}
			if op.RequestBody != nil {
				shown.Body = d.body(op.RequestBody.Content)
			}
			for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
				r := op.Responses[status]
				shown.Answers = append(shown.Answers, docsAnswer{Status: status, Response: r, Body: d.body(r.Content)})
			}
			list = append(list, shown)
		}
	}
	return list
}

// body shows the first media type of a body, and nil if there is none.
func (d docs) body(content map[string]*huma.MediaType) *docsBody {
	for _, mediaType := range slices.Sorted(maps.Keys(content)) {
		s := content[mediaType].Schema
		text, link := d.kind(s)
		return &docsBody{Type: text, Link: link, MediaType: mediaType, Example: d.example(s)}
	}
	return nil
}

func (d docs) shapes() []docsShape {
	all := d.schemas.Map()
	var list []docsShape
	for _, name := range slices.Sorted(maps.Keys(all)) {
		shape := docsShape{Name: name}
		for _, field := range fields(all[name]) {
			s := all[name].Properties[field]
			shape.Fields = append(shape.Fields, d.field(field, s, slices.Contains(all[name].Required, field)))
		}
		list = append(list, shape)
	}
	return list
}

func (d docs) field(name string, s *huma.Schema, required bool) docsField {
	text, link := d.kind(s)
	f := docsField{Name: name, Type: text, Link: link, Limits: limits(s), About: s.Description, Required: required}
	if s.Ref == "" {
		f.Example = d.example(s)
	}
	return f
}

// fields lists the members of an object: those that are required as they are
// declared, then the others.
func fields(s *huma.Schema) []string {
	list := slices.Clone(s.Required)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}
