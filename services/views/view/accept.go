package view

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/outbox"
	"github.com/cardwire/cardwire/services/internal/failpoint"
)

// Who accepted an event.
const (
	viaStream = "stream"
	viaOutbox = "outbox"
)

// errBrokerAway stands for a publish that was not tried.
var errBrokerAway = errors.New("broker not connected")

// viewed has the view of a page accepted and logs it, or logs that it is lost.
func (v *View) viewed(ctx context.Context, p *page, by viewer, source string, start time.Time) {
	e, ok, err := viewEvent(p, by, source, v.hasher)
	if err == nil && !ok {
		return
	}
	via, refused := "", err
	if err == nil {
		via, refused, err = v.accept(ctx, e)
	}
	line := v.log.Info()
	if err != nil {
		v.counts.lost.Inc()
		line = v.log.Error().Int64("lost_total", v.lost.Add(1)).AnErr("outbox_error", err)
	}
	line.Stringer("event_id", e.ID).Stringer("user_id", p.ownerID).Str("source", source)
	if p.key.cardID != uuid.Nil {
		line.Stringer("card_id", p.key.cardID)
	}
	if refused != nil {
		line.AnErr("publish_error", refused)
	}
	line.Dur("took_ms", time.Since(start))
	if err != nil {
		line.Msg("view lost")
		return
	}
	line.Str("via", via).Msg("view accepted")
}

// accept hands an event to the stream or, if that does not confirm it in time,
// to the outbox. It may then be in both, under one id. refused is why the
// stream did not take it; err says that the outbox did not either. It outlives
// the request, as the view happened even if the viewer is gone, and takes at
// most PUBLISH_TIMEOUT and outboxTimeout.
func (v *View) accept(ctx context.Context, e events.Event) (via string, refused, err error) {
	ctx = context.WithoutCancel(ctx)
	if refused = v.publish(ctx, e); refused == nil {
		v.counts.stream.Inc()
		return viaStream, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	if failpoint.Sabotaged("outbox skipped") {
		return viaOutbox, refused, nil
	}
	if err := outbox.Write(ctx, v.pool, e); err != nil {
		return "", refused, err
	}
	v.counts.outbox.Inc()
	return viaOutbox, refused, nil
}

func (v *View) publish(ctx context.Context, e events.Event) error {
	if !v.nats.IsConnected() {
		return errBrokerAway
	}
	if !v.silence.mayTry(time.Now()) {
		return errBrokerSilent
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.PublishTimeout)
	defer cancel()
	err := v.pub.Publish(ctx, e)
	v.silence.tried(time.Now(), err)
	return err
}
