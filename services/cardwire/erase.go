package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/cardwire/erase"
)

type eraseCommand struct {
	User uuid.UUID `required:"" placeholder:"ID" help:"Id of the user."`
	Yes  bool      `help:"Really remove. Without it, only say what there is."`
	brokerFlag
	database
}

// Run prints a table of what was removed, or what would be.
func (c eraseCommand) Run() error {
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
	e := erase.Eraser{DB: pool, JS: js}
	if !c.Yes {
		lines, err := e.Count(ctx, c.User)
		if err != nil {
			return explain(err)
		}
		if err := printErased("THERE IS", lines); err != nil {
			return err
		}
		note("Nothing was removed. To remove all of it, for good: cardwire erase --user %s --yes", c.User)
		return nil
	}
	lines, err := e.Erase(ctx, c.User)
	if printErr := printErased("REMOVED", lines); printErr != nil {
		return printErr
	}
	if err != nil {
		return fmt.Errorf("not all is removed; run it again to go on: %w", explain(err))
	}
	return nil
}

func printErased(title string, lines []erase.Line) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\tOF\n", title)
	for _, l := range lines {
		fmt.Fprintf(w, "%d\t%s\n", l.N, l.What)
	}
	return w.Flush()
}
