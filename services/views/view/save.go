package view

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/outbox"
	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/webjson"
	"github.com/cardwire/cardwire/sql/db"
)

// contact is the answer to a save, the same for the first and for repeats.
type contact struct {
	CardID   uuid.UUID `json:"cardId"`
	Username string    `json:"username"` // of the card's owner
	SavedAt  time.Time `json:"savedAt"`
}

// What save returns besides a contact.
var (
	errNoCard  = errors.New("no such card")
	errOwnCard = errors.New("own card")
)

// postSave serves POST /api/cards/{cardId}/save: 201 the first time, 200 after.
// Saving one's own card is 409: nothing in the request is malformed, and from
// anybody else it would be right.
func (v *View) postSave(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	by, err := v.verifier.User(r)
	switch {
	case errors.Is(err, auth.ErrCrossOrigin):
		webjson.WriteError(w, http.StatusForbidden, "A request with a cookie must come from the same origin")
		return
	case errors.Is(err, auth.ErrUnavailable):
		w.Header().Set("Retry-After", auth.RetryAfter)
		webjson.WriteError(w, http.StatusServiceUnavailable, "The token can't be checked right now: try again in "+auth.RetryAfter+" s")
		return
	case err != nil:
		webjson.WriteError(w, http.StatusUnauthorized, "Unauthorized")
		return
	}
	cardID, err := parseCardID(r.PathValue("cardId"))
	if err != nil {
		webjson.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	c, e, err := v.save(r.Context(), by, cardID)
	switch {
	case errors.Is(err, errNoCard):
		webjson.WriteError(w, http.StatusNotFound, "Card not found")
	case errors.Is(err, errOwnCard):
		webjson.WriteError(w, http.StatusConflict, "You can't save your own card")
	case err != nil:
		v.log.Warn().Err(err).Stringer("card_id", cardID).Stringer("saved_by", by).Msg("contact not saved")
		unavailable(w)
	case e.ID == uuid.Nil:
		webjson.Write(w, http.StatusOK, c)
	default:
		v.relay.Nudge()
		v.log.Info().Stringer("event_id", e.ID).Stringer("user_id", e.UserID).Stringer("card_id", cardID).
			Stringer("saved_by", by).Dur("took_ms", time.Since(start)).Msg("contact saved")
		webjson.Write(w, http.StatusCreated, c)
	}
}

// save writes contact and event in one transaction. The event is zero if the
// user has saved the card before. Errors are errNoCard, errOwnCard or the
// database's; after an error of the database the save may or may not have
// happened, and can be repeated.
func (v *View) save(ctx context.Context, by, cardID uuid.UUID) (c contact, e events.Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		owner, err := q.LockCardOwner(ctx, cardID)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return errNoCard
		case err != nil:
			return fmt.Errorf("read owner of card %s: %w", cardID, err)
		case owner.ID == by:
			return errOwnCard
		}
		c = contact{CardID: cardID, Username: owner.Username}
		fresh, err := events.New(owner.ID, events.ContactSaved, saved{CardID: cardID, SavedBy: by, Username: owner.Username})
		if err != nil {
			return err
		}
		c.SavedAt, err = q.InsertSavedContact(ctx, db.InsertSavedContactParams{UserID: by, CardID: cardID, EventID: fresh.ID})
		if errors.Is(err, pgx.ErrNoRows) {
			c.SavedAt, err = q.SavedAt(ctx, db.SavedAtParams{UserID: by, CardID: cardID})
			return err
		}
		if err != nil {
			return fmt.Errorf("insert saved contact: %w", err)
		}
		e = fresh
		return outbox.Write(ctx, tx, e)
	})
	return c, e, err
}
