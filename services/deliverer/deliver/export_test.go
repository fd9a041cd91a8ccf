package deliver

// What tests from outside the package need from inside.
var Post = post

const MaxResponseBody = maxResponseBody
