// Command cardwire is the one command: it runs everything for development, and
// does what operators need.
package main

import (
	"os"

	"github.com/alecthomas/kong"

	"github.com/cardwire/cardwire/services/cardwire/dev"
)

type commands struct {
	Dev     dev.Config     `cmd:"" help:"Run everything in one process: broker, PostgreSQL, views, webhooks, deliverer, and a sample receiver."`
	Token   tokenCommand   `cmd:"" help:"Print a token for a user."`
	Migrate migrateCommand `cmd:"" help:"Bring the database schema up to date."`
	Doctor  doctorCommand  `cmd:"" help:"Check a deployment: broker, PostgreSQL, keys and settings. Changes nothing; exits with 1 if a check fails."`
	Erase   eraseCommand   `cmd:"" help:"Remove all that is there of one user: rows and messages. Without --yes, say what that is."`
	Tail    tailCommand    `cmd:"" help:"Show events and attempts as they happen."`
	Keys    keysCommand    `cmd:"" help:"API keys of services and operators, and the encryption keyset that seals secrets in the database."`
	Replay  replayCommand  `cmd:"" help:"Deliver events once more: what failed, what is missing, or all of a range."`

	EventTypes eventTypesCommand `cmd:"" name:"event-types" help:"Files of event types, as in EVENT_TYPES_FILE."`
}

func main() {
	var cli commands
	ctx := kong.Parse(&cli, kong.Name("cardwire"), kong.Description("Domain events in, signed webhooks out."), kong.Exit(exit), keyGroups())
	ctx.FatalIfErrorf(ctx.Run())
}

// exit turns kong's exit code for wrong settings (80) into the usual 2.
func exit(code int) {
	if code > 1 {
		code = 2
	}
	os.Exit(code)
}
