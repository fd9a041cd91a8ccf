// Client registers an endpoint, tests it, and follows the delivery log, by the
// client that a generator made: it compiles as long as the document says what a
// user needs. It is told where the API is and a token.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"cardwire.example/client/api"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: client URL TOKEN")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, server, token string) error {
	client, err := api.NewClientWithResponses(server, api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	}))
	if err != nil {
		return err
	}
	created, err := client.CreateEndpointWithResponse(ctx, nil, api.NewEndpointBody{
		Url: "https://example.com/hook", Events: []string{"card.*"},
		Filter: &map[string]any{"source": []string{"qr", "nfc"}},
	})
	switch {
	case err != nil:
		return err
	case created.ApplicationproblemJSON400 != nil:
		return errors.New(created.ApplicationproblemJSON400.Error)
	case created.JSON201 == nil:
		return errors.New(created.Status())
	}
	fmt.Println("the secret is", created.JSON201.Secret)
	id := created.JSON201.Id

	sent, err := client.TestEndpointWithResponse(ctx, id, nil)
	switch {
	case err != nil:
		return err
	case sent.JSON202 == nil:
		return errors.New(sent.Status())
	}
	since, failed := time.Now().Add(-time.Hour), api.ListDeliveriesParamsStatusFailed
	page, err := client.ListDeliveriesWithResponse(ctx, id, &api.ListDeliveriesParams{Since: &since, Status: &failed})
	for ; err == nil && page.JSON200 != nil; page, err = client.ListDeliveriesWithResponse(ctx, id, &api.ListDeliveriesParams{Cursor: page.JSON200.Pagination.NextCursor}) {
		for _, d := range page.JSON200.Data {
			one, err := client.GetDeliveryWithResponse(ctx, id, d.Id)
			if err != nil {
				return err
			}
			for _, attempt := range one.JSON200.AttemptLog {
				fmt.Println(d.EventType, attempt.N, attempt.StartedAt, attempt.ErrorMessage)
			}
			if _, err := client.ResendDeliveryWithResponse(ctx, id, d.Id, nil); err != nil {
				return err
			}
		}
		if page.JSON200.Pagination.NextCursor == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	recovery, err := client.RecoverDeliveriesWithResponse(ctx, id, nil, api.RecoverBody{Since: since})
	if err != nil {
		return err
	}
	summary, err := client.GetSummaryWithResponse(ctx, id)
	if err != nil {
		return err
	}
	fmt.Println(sent.JSON202.DeliveryId, recovery.Status(), summary.JSON200.State)
	return nil
}
