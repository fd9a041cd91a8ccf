package metrics

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

type lag struct {
	js               jetstream.JetStream
	stream, consumer string
	cached
	pending, inHand, up *prometheus.Desc
}

// Lag collects how far a durable consumer is behind its stream. Every replica
// tells the same. While the broker does not answer, or the consumer is gone,
// only cardwire_consumer_up is there, and 0.
func Lag(js jetstream.JetStream, stream, consumer string) prometheus.Collector {
	labels := prometheus.Labels{"stream": stream, "consumer": consumer}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(Namespace+"_consumer_"+name, help, nil, labels)
	}
	l := &lag{
		js: js, stream: stream, consumer: consumer,
		up:      desc("up", "Whether the broker told of the consumer."),
		pending: desc("pending_messages", "Messages of the stream that the consumer has not handed out yet."),
		inHand:  desc("unacked_messages", "Messages handed out and not acked; of a delay line also those of its head that are not due."),
	}
	l.read = l.ask
	return l
}

// Describe implements [prometheus.Collector].
func (l *lag) Describe(ch chan<- *prometheus.Desc) {
	ch <- l.up
	ch <- l.pending
	ch <- l.inHand
}

func (l *lag) ask(ctx context.Context) []prometheus.Metric {
	c, err := l.js.Consumer(ctx, l.stream, l.consumer) // asks the broker
	if err != nil {
		return []prometheus.Metric{gauge(l.up, 0)}
	}
	info := c.CachedInfo()
	return []prometheus.Metric{gauge(l.up, 1), gauge(l.pending, float64(info.NumPending)), gauge(l.inHand, float64(info.NumAckPending))}
}
