package endpoints

import (
	"encoding/json"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// An Optional is a member of a body that may be missing, which is not the same
// as null.
type Optional[T any] struct {
	Sent, Null bool
	Value      T // if Sent and not Null
}

// UnmarshalJSON is called if the member is there.
func (o *Optional[T]) UnmarshalJSON(text []byte) error {
	o.Sent, o.Null = true, string(text) == "null"
	return json.Unmarshal(text, &o.Value)
}

// Schema is that of a T.
func (Optional[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

// pointer is the value, or nil for null.
func (o Optional[T]) pointer() *T {
	if o.Null {
		return nil
	}
	return &o.Value
}

// required refuses null.
func (o Optional[T]) required(field string) error {
	if o.Null {
		return invalid(field, "must not be null")
	}
	return nil
}
