// Command views serves profiles and cards, and publishes an event for each
// view of somebody else's.
package main

import (
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/views/view"
)

func main() {
	process.Main(process.Service{
		Name:  "views",
		About: "Serves profiles and cards, and publishes card.viewed and contact.saved.",
		Addr:  "127.0.0.1:8081",
	}, func(cfg view.Config, d process.Deps) ([]process.Step, error) {
		v, err := view.New(cfg, d)
		if err != nil {
			return nil, err
		}
		return []process.Step{v}, nil
	})
}
