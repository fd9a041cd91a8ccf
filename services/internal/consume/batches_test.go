package consume

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestALingeringBatchIsHandedOverWhenItIsFullAndWhenReadingEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(cancel func(), incoming chan jetstream.Msg)
	}{
		{"reading ends", func(cancel func(), _ chan jetstream.Msg) { cancel() }},
		{"nothing more comes", func(_ func(), incoming chan jetstream.Msg) { close(incoming) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			incoming := make(chan jetstream.Msg) // who has sent to it knows that it was taken
			sizes := make(chan []int)
			go func() {
				var got []int
				for batch := range batches(ctx, incoming, Source{MaxBatch: 3, Linger: time.Hour}) {
					got = append(got, len(batch))
				}
				sizes <- got
			}()
			for range 4 {
				incoming <- nil
			}
			tt.end(cancel, incoming)
			if got := <-sizes; !slices.Equal(got, []int{3, 1}) {
				t.Errorf("batches of %v messages, want 3 and 1", got)
			}
		})
	}
}

func TestABatchThatDoesNotLingerTakesWhatIsThere(t *testing.T) {
	t.Parallel()
	incoming := make(chan jetstream.Msg, 5)
	for range 5 {
		incoming <- nil
	}
	close(incoming)
	var got []int
	for batch := range batches(t.Context(), incoming, Source{MaxBatch: 3}) {
		got = append(got, len(batch))
	}
	if !slices.Equal(got, []int{3, 2}) {
		t.Errorf("batches of %v messages, want 3 and 2", got)
	}
}

func TestABatchThatLingersIsHandedOverAtLast(t *testing.T) {
	t.Parallel()
	incoming := make(chan jetstream.Msg, 1)
	incoming <- nil
	for batch := range batches(t.Context(), incoming, Source{MaxBatch: 3, Linger: time.Millisecond}) {
		if len(batch) != 1 {
			t.Errorf("a batch of %d messages, want 1", len(batch))
		}
		close(incoming)
	}
}
