package view

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/outbox"
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
	if err := outbox.Write(ctx, v.pool, e); err != nil {
		return "", refused, err
	}
	v.counts.outbox.Inc()
	return viaOutbox, refused, nil
}

// silentPause is for how long the stream is not asked after it left a publish
// unanswered, but for one view at its end. A broker that hangs is noticed by its
// pings only after 30 s; meanwhile each page would wait for PUBLISH_TIMEOUT.
const silentPause = time.Second

// errSilent stands for a publish that was not tried as the one before it got no answer.
var errSilent = errors.New("broker does not answer")

// A silence notes that the stream does not answer. The zero value is none.
type silence struct{ until atomic.Int64 } // in Unix nanoseconds; 0: it answers

// ask says whether to ask the stream now. After a pause one caller may, and the
// others only once he got an answer.
func (s *silence) ask(now time.Time) bool {
	until := s.until.Load()
	return until == 0 || now.UnixNano() >= until && s.until.CompareAndSwap(until, now.Add(silentPause).UnixNano())
}

// answered notes how a publish ended.
func (s *silence) answered(now time.Time, err error) {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s.until.Store(now.Add(silentPause).UnixNano())
	case s.until.Load() != 0: // any answer is one, a refusal too
		s.until.Store(0)
	}
}

func (v *View) publish(ctx context.Context, e events.Event) error {
	if !v.nats.IsConnected() {
		return errBrokerAway
	}
	if !v.silence.ask(time.Now()) {
		return errSilent
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.PublishTimeout)
	defer cancel()
	err := v.pub.Publish(ctx, e)
	v.silence.answered(time.Now(), err)
	return err
}
