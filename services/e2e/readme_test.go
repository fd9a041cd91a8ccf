package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/views/view"
	"github.com/cardwire/cardwire/services/webhooks/endpoints"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
	"github.com/cardwire/cardwire/services/webhooks/publish"
)

// The README's table of settings and the settings themselves must agree.
func TestTheReadmeListsEverySettingWithItsDefault(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(filepath.Dir(natstest.ConfigFile(t)), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(readme), "\n## Settings\n")
	if !ok {
		t.Fatal("README has no section Settings")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	type row struct{ defaults, services string }
	rows := make(map[string]row)
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		for name := range strings.SplitSeq(cells[1], ",") {
			rows[strings.Trim(name, " `")] = row{cells[2], cells[3]}
		}
	}
	for service, configs := range map[string][]any{
		"views":     {&process.Config{}, &view.Config{}},
		"webhooks":  {&process.Config{}, &endpoints.Config{}, &fanout.Config{}, &publish.Config{}},
		"deliverer": {&process.Config{}, &deliver.Config{}, &sweep.Config{}},
	} {
		for _, cfg := range configs {
			parser, err := kong.New(cfg, kong.Vars{"addr": "127.0.0.1:"})
			if err != nil {
				t.Fatal(err)
			}
			for _, flag := range parser.Model.Flags {
				for _, env := range flag.Envs {
					r, ok := rows[env]
					if !ok {
						t.Errorf("%s: %s is not in the table", service, env)
						continue
					}
					if !strings.Contains(r.defaults, flag.Default) {
						t.Errorf("%s: the table says the default is %s, it is %s", env, r.defaults, flag.Default)
					}
					if !strings.Contains(r.services, service) && strings.TrimSpace(r.services) != "all" {
						t.Errorf("%s: the table says it is for %s, but %s has it", env, r.services, service)
					}
					if flag.Help == "" {
						t.Errorf("%s: %s has no help", service, env)
					}
				}
			}
		}
	}
}
