// Package check judges a run of the crash lab. It reads what a publisher and a
// receiver wrote down, which faults there were, and PostgreSQL's rows, and it
// shares no code with the services: what they believe proves nothing.
package check

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
)

// States of an event in the publisher's journal. The last line of an event counts.
const (
	Intended = "intended" // about to be handed over
	Accepted = "accepted" // the stream acked it, its transaction committed, or the views service said so
	Unknown  = "unknown"  // no answer: it may be there or not
	Refused  = "refused"  // said not to be taken
)

// A Published is a line of the publisher's journal.
type Published struct {
	EventID  uuid.UUID `json:"event"`
	UserID   uuid.UUID `json:"user"`
	Type     string    `json:"type"`
	Via      string    `json:"via"` // stream, outbox or page
	State    string    `json:"state"`
	BodyHash string    `json:"body,omitempty"` // SHA-256 in hex; empty if the publisher does not know the body
	At       time.Time `json:"at"`             // of a page: when its event was accepted
}

// A Received is a line of the receiver's journal: a POST, written before its answer.
type Received struct {
	EventID    uuid.UUID `json:"event"`    // webhook-id
	EndpointID uuid.UUID `json:"endpoint"` // the last part of its URL, which is the id of those that were there at first
	ReplayID   uuid.UUID `json:"replay"`   // webhook-replay; uuid.Nil: none
	BodyHash   string    `json:"body"`
	Verified   bool      `json:"verified"`          // by the endpoint's first secret, and a foreign implementation of Standard Webhooks
	Rotated    []int     `json:"rotated,omitempty"` // by which of its further secrets too: see Change.Secret
	Status     int       `json:"status"`            // answered; 0: the connection was closed without an answer
	At         time.Time `json:"at"`
	Answered   time.Time `json:"answered"` // when the answer was to go
}

// A Fault is a line of the journal of faults.
type Fault struct {
	Name string    `json:"name"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"` // when what it did was undone, as far as it can be
	// Cuts says that it can keep a deliverer from settling an attempt: by a kill, a
	// stop, or with PostgreSQL out of reach.
	Cuts bool `json:"cuts"`
}

// Kinds of changes.
const (
	Created  = "created"
	Rotated  = "rotated"
	Deleted  = "deleted"
	Replayed = "replayed" // a replay of all to the endpoint was begun
)

// A Change is a line of the journal of changes: what was asked of the endpoints
// API, until it answered, and what that said.
type Change struct {
	Kind     string    `json:"kind"`
	Endpoint uuid.UUID `json:"endpoint"` // as in Received
	State    string    `json:"state"`    // Accepted: it answered so; Unknown
	Asked    time.Time `json:"asked"`    // first
	Answered time.Time `json:"answered"`
	Secret   int       `json:"secret,omitempty"` // of a rotation: which of the further secrets it made
	Replay   uuid.UUID `json:"replay"`           // of a replay
}

// A Journal is a file of JSON lines that is only appended to. It is safe for
// concurrent use.
type Journal struct {
	mu   sync.Mutex
	file *os.File
	err  error
}

// OpenJournal makes the file, or goes on with it.
func OpenJournal(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &Journal{file: f}, nil
}

// Write appends a line in one write.
func (j *Journal) Write(line any) {
	text, err := json.Marshal(line)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		_, err = j.file.Write(append(text, '\n'))
	}
	j.err = errors.Join(j.err, err)
}

// Close closes the file, and says whether a line could not be written.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.err, j.file.Close())
}

// ReadJournal reads the lines of a journal. A file that is not there has none.
func ReadJournal[T any](path string) (lines []T, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	defer f.Close()
	d := json.NewDecoder(bufio.NewReader(f))
	for {
		var line T
		err := d.Decode(&line)
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read journal %s, line %d: %w", path, len(lines)+1, err)
		}
		lines = append(lines, line)
	}
}
