// A client as a user would make it: .ci/run client generates package api here,
// from the document that the API serves, and builds the program.
module cardwire.example/client

go 1.26.0

require github.com/oapi-codegen/runtime v1.8.0

require (
	github.com/apapsch/go-jsonmerge/v2 v2.0.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
)
