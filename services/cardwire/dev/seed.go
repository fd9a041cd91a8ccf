package dev

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"

	"github.com/cardwire/cardwire/services/cardwire/demo"
	"github.com/cardwire/cardwire/services/cardwire/receiver"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/webhooks/endpoints"
	"github.com/cardwire/cardwire/sql/db"
)

// maxReceived is of how many endpoints the sample receiver knows the secrets.
const maxReceived = 100

// seed puts the demo into the database and the sample receiver onto the mux,
// which is reached at addr. live says that the demo's endpoint leads there, and
// was not deleted.
func (d *dev) seed(ctx context.Context, c *connections, s settings, addr string) (live bool, err error) {
	keyset, err := secrets.ParseKeyset(s.keyset)
	if err != nil {
		return false, fmt.Errorf("ENCRYPTION_KEYSET: %w", err)
	}
	if err := demo.SeedUsers(ctx, c.webhooks.DB); err != nil {
		return false, err
	}
	at := &url.URL{Scheme: "http", Host: addr, Path: receiver.Path}
	if live, err = demo.SeedEndpoint(ctx, c.webhooks.DB, keyset, at); err != nil {
		return false, err
	}
	store := endpoints.Store{DB: c.webhooks.DB, Keyset: keyset}
	if _, err := store.Secrets(ctx, demo.Endpoint); err != nil {
		d.log.Warn().Err(err).Stringer("endpoint_id", demo.Endpoint).
			Msg("the demo endpoint has a secret of another ENCRYPTION_KEYSET: rotate it")
	}
	c.webhooks.Mux.Handle("POST "+receiver.Path, &receiver.Receiver{
		Secrets: func(ctx context.Context) ([]string, error) { return receiverSecrets(ctx, store) },
		Out:     d.out,
	})
	return live, nil
}

// receiverSecrets returns the secrets of the endpoints that lead to the sample
// receiver. One that does not open is no reason to refuse the others.
func receiverSecrets(ctx context.Context, store endpoints.Store) ([]string, error) {
	ids, err := db.New(store.DB).EndpointsAtPath(ctx, db.EndpointsAtPathParams{Path: receiver.Path, MaxRows: maxReceived})
	if err != nil {
		return nil, fmt.Errorf("list endpoints of the sample receiver: %w", err)
	}
	var all []string
	for _, id := range ids {
		list, secretErr := store.Secrets(ctx, id)
		if secretErr != nil {
			err = secretErr
			continue
		}
		all = append(all, list...)
	}
	if len(all) > 0 {
		return all, nil
	}
	return nil, err
}

// reachable is the address under which curl and the deliverer reach what listens
// on addr: loopback, if that is all interfaces.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && net.ParseIP(host).IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

func randomText() (string, error) { return rand.Text() + rand.Text(), nil } // 52 letters and digits, 260 bits
