package view

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
)

// Attributes of card.viewed: what a view row needs and receivers must not get.
const (
	attrHash  = "viewer-hash"
	attrAgent = "viewer-agent"
)

// maxAgent bounds a user agent, in bytes (card_views.user_agent).
const maxAgent = 512

// viewed is the data of card.viewed, as receivers get it.
type viewed struct {
	CardID   *uuid.UUID `json:"cardId"`   // null: the profile was viewed
	ViewerID *uuid.UUID `json:"viewerId"` // null: anonymous
	Username string     `json:"username"` // of the owner
	Source   string     `json:"source"`   // where the view came from: link, qr, …
}

// saved is the data of contact.saved, as receivers get it.
type saved struct {
	CardID   uuid.UUID `json:"cardId"`
	SavedBy  uuid.UUID `json:"savedBy"`
	Username string    `json:"username"` // of the owner
}

// viewEvent is the event of a view; ok is false if there is none, as the owner
// looks at their own page. The error is an [*events.InvalidError].
func viewEvent(p *page, by viewer, source string, h hasher) (e events.Event, ok bool, err error) {
	if by.id == p.ownerID {
		return events.Event{}, false, nil
	}
	e, err = events.New(p.ownerID, events.CardViewed, viewed{
		CardID: orNull(p.key.cardID), ViewerID: orNull(by.id), Username: p.key.username, Source: source,
	})
	if err != nil {
		return events.Event{}, false, err
	}
	e.Attributes = make(map[string]string, 2)
	if by.addr.IsValid() {
		e.Attributes[attrHash] = h.hash(by.addr)
	}
	if agent := cleanAgent(by.agent); agent != "" {
		e.Attributes[attrAgent] = agent
	}
	return e, true, nil
}

func orNull(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// A hasher is the key of viewer hashes.
type hasher []byte

// hash is the same for the same address, and without the key nobody can go from
// one to the other. 32 hex characters: 128 bits tell viewers apart.
func (h hasher) hash(addr netip.Addr) string {
	mac := hmac.New(sha256.New, h)
	bytes := addr.As16()
	mac.Write(bytes[:])
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// cleanAgent is what is kept of a user agent: printable UTF-8, at most maxAgent
// bytes, cut between characters, and fit for a NATS header.
func cleanAgent(s string) string {
	s = s[:min(len(s), 4*maxAgent)] // bounds the work
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > maxAgent {
		n := maxAgent
		for !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.TrimSpace(s)
}
