package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
)

// oldestBroker is the oldest broker that has what the streams are configured with.
const oldestBroker = "2.12"

func (r *report) broker(ctx context.Context, cfg Config) {
	const name = "broker"
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	nc, err := nats.Connect(cfg.NATSURL, append([]nats.Option{nats.Name("cardwire-doctor"), nats.Timeout(connectTimeout)}, cfg.NATSOptions...)...)
	if err != nil {
		r.fail(name, "Start it, or correct NATS_URL: a user of nats.conf that may ask about streams, such as operator.", "it does not answer: %v", err)
		return
	}
	defer nc.Close()
	switch version := nc.ConnectedServerVersion(); {
	case !atLeast(version, oldestBroker):
		r.fail(name, "Upgrade to "+oldestBroker+" or newer.", "version %s is too old", version)
	case nc.MaxPayload() < streams.MaxMessage:
		r.fail(name, fmt.Sprintf("Set max_payload to %d or more.", streams.MaxMessage), "it takes messages of %d bytes, an event can have %d", nc.MaxPayload(), streams.MaxMessage)
	default:
		r.ok(name, "version %s answers", version)
	}
	js, err := streams.Open(nc)
	if err != nil {
		r.fail("jetstream", "See the broker's log.", "%v", err)
		return
	}
	if !r.jetstream(ctx, js) {
		return
	}
	r.stream(ctx, js, cfg.Streams.EventsStream(), streams.FanOutConsumer(), streams.CardViewsConsumer())
	deliveries := []jetstream.ConsumerConfig{
		streams.LaneConsumer(streams.First, streams.AllFirst), streams.LaneConsumer(streams.Again, streams.AllAgain),
	}
	seen := make(map[time.Duration]bool)
	for _, step := range cfg.Schedule {
		if !seen[step] {
			seen[step] = true
			deliveries = append(deliveries, streams.WaitLineConsumer(step))
		}
	}
	r.stream(ctx, js, cfg.Streams.DeliveriesStream(), deliveries...)
}

// almostFull is the share of a limit from which on it is worth a warning.
const almostFull = 0.8

// jetstream checks the account's limits, and says whether there is JetStream.
func (r *report) jetstream(ctx context.Context, js jetstream.JetStream) bool {
	const name = "jetstream"
	info, err := js.AccountInfo(ctx)
	if err != nil {
		r.fail(name, "Enable jetstream in the broker's configuration, and for the account; nats.conf shows how.", "%v", err)
		return false
	}
	used := fmt.Sprintf("%d MiB of files used", info.Store>>20)
	switch most := info.Limits.MaxStore; {
	case most > 0 && float64(info.Store) > almostFull*float64(most):
		r.warn(name, "Raise the account's limit, or max_file_store.", "%s of %d MiB allowed", used, most>>20)
	case most > 0:
		r.ok(name, "%s of %d MiB allowed", used, most>>20)
	default:
		r.ok(name, "%s; the account has no limit of its own", used)
	}
	return true
}

// stream compares a stream and its consumers with what the services would make.
func (r *report) stream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, consumers ...jetstream.ConsumerConfig) {
	name := "stream " + want.Name
	before := time.Now()
	s, err := js.Stream(ctx, want.Name)
	after := time.Now()
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		r.fail(name, "Start the services: they make it.", "it does not exist")
		return
	}
	if err != nil {
		r.fail(name, "Connect as a user that may ask about it, such as operator.", "not readable: %v", err)
		return
	}
	info := s.CachedInfo()
	if want.Name == streams.Events && !info.TimeStamp.IsZero() {
		r.skew("clock of the broker", info.TimeStamp, before, after)
	}
	diff := diffStream(want, info.Config)
	full := info.Config.MaxBytes > 0 && float64(info.State.Bytes) > almostFull*float64(info.Config.MaxBytes)
	switch {
	case len(diff) > 0 && want.Name == streams.Deliveries:
		// Not all of it can be edited, and all that is in it is in PostgreSQL.
		r.warn(name, "Set the setting to what it is; or delete the stream, with the services running: they make it anew, and publish again what waits.", "%s", strings.Join(diff, "; "))
	case len(diff) > 0:
		r.warn(name, "Set it so with nats stream edit, or the setting to what it is.", "%s", strings.Join(diff, "; "))
	case full:
		r.warn(name, "Raise its limit with nats stream edit; when it is full, events go to the outbox.", "%d of %d MiB are used", info.State.Bytes>>20, info.Config.MaxBytes>>20)
	case info.Config.Replicas == 1:
		r.ok(name, "as configured, %d messages, 1 copy: what a power failure loses is up to sync_interval, which a client can't see", info.State.Msgs)
	default:
		r.ok(name, "as configured, %d messages, %d copies", info.State.Msgs, info.Config.Replicas)
	}
	for _, c := range consumers {
		r.consumer(ctx, s, want.Name, c)
	}
}

func (r *report) consumer(ctx context.Context, s jetstream.Stream, stream string, want jetstream.ConsumerConfig) {
	name := "consumer " + want.Durable + " of " + stream
	c, err := s.Consumer(ctx, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		r.fail(name, "Start its service, which makes it.", "it does not exist")
		return
	}
	if err != nil {
		r.fail(name, "Connect as a user that may ask about it, such as operator.", "not readable: %v", err)
		return
	}
	info := c.CachedInfo()
	if diff := diffConsumer(want, info.Config); len(diff) > 0 {
		r.warn(name, "Restart its service with the settings that are meant: it sets them.", "%s", strings.Join(diff, "; "))
		return
	}
	r.ok(name, "as configured, %d to hand out, %d handed out", info.NumPending, info.NumAckPending)
}

// A diff lists what is not as it should be.
type diff []string

func (d *diff) add(field string, have, want any) {
	if h, w := fmt.Sprint(have), fmt.Sprint(want); h != w {
		*d = append(*d, fmt.Sprintf("%s is %s, should be %s", field, h, w))
	}
}

func diffStream(want, have jetstream.StreamConfig) (d diff) {
	d.add("subjects", have.Subjects, want.Subjects)
	d.add("retention", have.Retention, want.Retention)
	d.add("discard", have.Discard, want.Discard)
	d.add("storage", have.Storage, want.Storage)
	d.add("max age", have.MaxAge, want.MaxAge)
	d.add("max bytes", max(have.MaxBytes, 0), max(want.MaxBytes, 0)) // -1 and 0 are no limit
	d.add("max message size", have.MaxMsgSize, want.MaxMsgSize)
	d.add("duplicate window", have.Duplicates, want.Duplicates)
	d.add("replicas", have.Replicas, want.Replicas)
	d.add("direct get", have.AllowDirect, want.AllowDirect)
	d.add("persist mode", have.PersistMode, want.PersistMode)
	d.add("atomic publish", have.AllowAtomicPublish, want.AllowAtomicPublish)
	return d
}

func diffConsumer(want, have jetstream.ConsumerConfig) (d diff) {
	d.add("filter", have.FilterSubject, want.FilterSubject)
	d.add("ack policy", have.AckPolicy, want.AckPolicy)
	d.add("ack wait", have.AckWait, want.AckWait)
	d.add("max deliver", have.MaxDeliver, want.MaxDeliver)
	d.add("max ack pending", have.MaxAckPending, want.MaxAckPending)
	return d
}

// atLeast compares versions such as 2.12.1 by their numbers.
func atLeast(have, want string) bool { return slices.Compare(numbers(have), numbers(want)) >= 0 }

func numbers(version string) (ns []int) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return ns
		}
		ns = append(ns, n)
	}
	return ns
}
