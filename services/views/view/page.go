package view

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/clientrate"
	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/webjson"
	"github.com/cardwire/cardwire/sql/db"
)

// Where a view comes from if it does not say.
const (
	profileSource = "link"
	cardSource    = "qr"
)

// profile is how a user is shown, alone or as the owner of a card.
type profile struct {
	Username    string  `json:"username"`
	DisplayName string  `json:"displayName"`
	Bio         *string `json:"bio"`
	Pronouns    *string `json:"pronouns"`
	Role        *string `json:"role"`
	Company     *string `json:"company"`
	AvatarURL   *string `json:"avatarUrl"`
	AccentColor string  `json:"accentColor"`
}

// profilePage is the answer for a profile. Links are
// [{id, platform, username, url, displayOrder}] in their order, as the query
// makes them.
type profilePage struct {
	profile
	Links json.RawMessage `json:"links"`
}

// cardPage is the answer for a card.
type cardPage struct {
	ID    uuid.UUID       `json:"id"`
	Title string          `json:"title"`
	Owner profile         `json:"owner"`
	Links json.RawMessage `json:"links"` // those on the card, in the card's order
}

// getProfile serves GET /api/u/{username}.
func (v *View) getProfile(w http.ResponseWriter, r *http.Request) {
	source, err := parseSource(r.URL.RawQuery, profileSource)
	if err != nil {
		webjson.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	v.serve(w, r, uuid.Nil, source, "User not found")
}

// getCard serves GET /api/u/{username}/card/{cardId}.
func (v *View) getCard(w http.ResponseWriter, r *http.Request) {
	source, err := parseSource(r.URL.RawQuery, cardSource)
	if err != nil {
		webjson.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	cardID, err := parseCardID(r.PathValue("cardId"))
	if err != nil {
		webjson.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	v.serve(w, r, cardID, source, "Card not found")
}

// serve answers with a page once its view is accepted, or could not be.
func (v *View) serve(w http.ResponseWriter, r *http.Request, cardID uuid.UUID, source, notFound string) {
	start := time.Now()
	username, ok := parseUsername(r.PathValue("username"))
	if !ok {
		webjson.WriteError(w, http.StatusNotFound, notFound)
		return
	}
	p, err := v.pages.get(r.Context(), pageKey{username: username, cardID: cardID})
	switch {
	case err != nil:
		v.log.Warn().Err(err).Msg("page not read")
		unavailable(w)
		return
	case p == nil:
		webjson.WriteError(w, http.StatusNotFound, notFound)
		return
	}
	if r.Method != http.MethodHead { // a HEAD shows nothing to anybody
		by := viewer{id: user(v.verifier, r), addr: clientrate.Addr(r, v.cfg.TrustedProxies), agent: r.UserAgent()}
		v.viewed(r.Context(), p, by, source, start)
		failpoint.Hit("views accepted")
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(p.body)))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store") // a view that a cache answers would not be counted
	_, _ = w.Write(p.body)             // the client is gone, there is nobody to tell
}

// unavailable tells a client to come again: the database does not answer.
func unavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	webjson.WriteError(w, http.StatusServiceUnavailable, "This can't be read or written right now: try again in 1 s")
}

// readPage reads a page from the database; nil if there is no such user, or no
// such card of that user.
func (v *View) readPage(ctx context.Context, key pageKey) (*page, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	ownerID, answer, err := v.query(ctx, key)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read page of %s, card %s: %w", key.username, key.cardID, err)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("encode page of %s, card %s: %w", key.username, key.cardID, err)
	}
	return &page{key: key, ownerID: ownerID, body: append(body, '\n')}, nil
}

func (v *View) query(ctx context.Context, key pageKey) (ownerID uuid.UUID, answer any, err error) {
	if key.cardID == uuid.Nil {
		row, err := v.db.ProfilePage(ctx, key.username)
		return row.ID, profilePage{profile: profile{
			Username: row.Username, DisplayName: row.DisplayName, Bio: row.Bio, Pronouns: row.Pronouns,
			Role: row.Role, Company: row.Company, AvatarURL: row.AvatarUrl, AccentColor: row.AccentColor,
		}, Links: row.Links}, err
	}
	row, err := v.db.CardPage(ctx, db.CardPageParams{CardID: key.cardID, Username: key.username})
	return row.ID, cardPage{ID: row.CardID, Title: row.Title, Owner: profile{
		Username: row.Username, DisplayName: row.DisplayName, Bio: row.Bio, Pronouns: row.Pronouns,
		Role: row.Role, Company: row.Company, AvatarURL: row.AvatarUrl, AccentColor: row.AccentColor,
	}, Links: row.Links}, err
}
