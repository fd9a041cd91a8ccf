package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/services/cardwire/tail"
)

type tailCommand struct {
	User     uuid.UUID `placeholder:"ID" help:"Only events of this user, and attempts to the user's endpoints."`
	Type     string    `placeholder:"TYPE" help:"Only this event type, or types by a pattern such as 'card.*'."`
	Endpoint uuid.UUID `placeholder:"ID" help:"Only attempts to this endpoint."`
	Failed   bool      `help:"Only attempts that failed."`
	JSON     bool      `name:"json" help:"Print a JSON object a line."`
	brokerFlag
	database
}

// Run prints until Ctrl-C.
func (c tailCommand) Run() error {
	filter := tail.Filter{User: c.User, Endpoint: c.Endpoint, Type: c.Type, Failed: c.Failed}
	if err := filter.Check(); err != nil {
		return err
	}
	ctx, pool, closeAll, err := c.database.open()
	if err != nil {
		return err
	}
	defer closeAll()
	nc, js, err := c.brokerFlag.open(c.Data)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDisconnectErrHandler(func(nc *nats.Conn, _ error) {
		if !nc.IsClosed() {
			note("The broker is away; events go on when it is back.")
		}
	})
	nc.SetReconnectHandler(func(*nats.Conn) { note("The broker is back.") })
	var mu sync.Mutex // events and attempts come from two sides
	line := func(v any, text string) {
		mu.Lock()
		defer mu.Unlock()
		if c.JSON {
			_ = json.NewEncoder(os.Stdout).Encode(v)
			return
		}
		fmt.Println(text)
	}
	t := tail.Tail{
		DB: pool, JS: js, Filter: filter,
		Event:   func(e tail.Event) { line(e, eventLine(e)) },
		Attempt: func(a tail.Attempt) { line(a, attemptLine(a)) },
		Ready:   func() { note("Watching. Ctrl-C ends it.") },
	}
	return explain(t.Run(ctx))
}

const clock = "15:04:05.000"

func eventLine(e tail.Event) string {
	return fmt.Sprintf("%s event    %s  user %s  event %s  %d bytes", e.At.Local().Format(clock), e.Type, e.UserID, e.ID, e.Bytes)
}

func attemptLine(a tail.Attempt) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s attempt  %s  endpoint %s  event %s  delivery %s  #%d %s", a.At.Local().Format(clock), a.Type, a.EndpointID, a.EventID, a.DeliveryID, a.N, a.Outcome)
	if a.ResponseCode != nil {
		fmt.Fprintf(&b, " %d", *a.ResponseCode)
	}
	if a.DurationMs != nil {
		fmt.Fprintf(&b, " %d ms", *a.DurationMs)
	}
	if a.Error != nil {
		fmt.Fprintf(&b, " %q", *a.Error)
	}
	if a.NextAttempt != nil {
		fmt.Fprintf(&b, ", next at %s", a.NextAttempt.Local().Format(clock))
	}
	return b.String()
}
