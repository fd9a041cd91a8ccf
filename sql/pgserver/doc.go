// Package pgserver finds, fetches and runs a local PostgreSQL, version 14 or
// newer: for the dev command, which keeps its data between runs, and for tests,
// which throw it away ([NewThrowaway]).
//
// A server listens on a unix socket in a directory that only its own user can
// enter, never on TCP. It is a child of this process, in a process group of its
// own so that a Ctrl-C on the terminal does not reach it before [Server.Stop]
// does, and on Linux the kernel ends it when this process dies in any way. It
// runs on Linux and macOS.
package pgserver
