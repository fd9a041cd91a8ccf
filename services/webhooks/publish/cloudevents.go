package publish

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
)

// attributes of a CloudEvent that mean something here. Others are not kept.
type attributes struct {
	specversion, id, source, kind, time, userID, subject, contentType, trace string
}

// cloudEvent reads a CloudEvent in structured mode.
func cloudEvent(raw []byte) *item {
	it := &item{}
	all, err := members(raw)
	if err != nil {
		errors.As(err, &it.fault)
		return it
	}
	var a attributes
	for name, to := range map[string]*string{
		"specversion": &a.specversion, "id": &a.id, "source": &a.source, "type": &a.kind, "time": &a.time,
		"userid": &a.userID, "subject": &a.subject, "datacontenttype": &a.contentType, "traceparent": &a.trace,
	} {
		value, there := all[name]
		if !there || string(value) == "null" {
			continue
		}
		if *to, it.fault = readText(name, value); it.fault != nil {
			return it
		}
	}
	if _, there := all["data_base64"]; there {
		it.fault = refuse("data_base64", "is not taken: put a JSON object into data")
		return it
	}
	it.data = all["data"]
	it.fault = it.setAttributes(a)
	return it
}

// binaryEvent reads a CloudEvent in binary mode: attributes in headers, data in the body.
func binaryEvent(h http.Header, body []byte) *item {
	it := &item{data: body}
	get := func(name string) string {
		value := h.Get("Ce-" + name)
		if text, err := url.PathUnescape(value); err == nil { // as the HTTP binding encodes what is not ASCII
			return text
		}
		return value
	}
	it.fault = it.setAttributes(attributes{
		specversion: get("specversion"), id: get("id"), source: get("source"), kind: get("type"), time: get("time"),
		userID: get("userid"), subject: get("subject"), trace: get("traceparent"),
	})
	if it.fault == nil && len(body) > 0 && !json.Valid(body) {
		it.fault = refuse("data", "must be a JSON object")
	}
	return it
}

// setAttributes makes the item of a CloudEvent's attributes. An id that is a UUIDv7 is
// the event's; any other names it, together with the source.
func (it *item) setAttributes(a attributes) *fault {
	switch {
	case a.specversion != "1.0":
		return refuse("specversion", "must be 1.0")
	case a.id == "":
		return refuse("id", "is required")
	case a.source == "":
		return refuse("source", "is required")
	case a.kind == "":
		return refuse("type", "is required")
	case !jsonType(a.contentType):
		return refuse("datacontenttype", "must be "+typeJSON)
	}
	it.given, it.typ, it.trace = a.id, a.kind, a.trace
	if id, err := uuid.Parse(a.id); err == nil && len(a.id) == 36 && id.Version() == 7 && id.Variant() == uuid.RFC4122 {
		it.id = id
	} else {
		it.setName("cloudevent", a.source, a.id)
	}
	if len(it.data) == 0 || string(it.data) == "null" { // a CloudEvent may have none
		it.data = json.RawMessage(`{}`)
	}
	if a.time != "" {
		if f := it.setTime("time", a.time); f != nil {
			return f
		}
	}
	field, user := "userid", a.userID
	if user == "" {
		field, user = "subject", a.subject
	}
	if user == "" {
		return refuse("userid", "is required: an extension attribute with the UUID of the user whose endpoints get the event; or that as subject")
	}
	return it.setUser(field, user)
}

func jsonType(contentType string) bool {
	if contentType == "" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && (mediaType == typeJSON || strings.HasSuffix(mediaType, "+json"))
}
