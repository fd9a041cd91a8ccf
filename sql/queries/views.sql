-- name: ProfilePage :one
-- A user by username, with links in their order as JSON in the shape of the answer.
SELECT u.id, u.username, u.display_name, u.bio, u.pronouns, u.role, u.company, u.avatar_url, u.accent_color,
       coalesce((
           SELECT json_agg(json_build_object('id', l.id, 'platform', l.platform, 'username', l.username,
                                             'url', l.url, 'displayOrder', l.display_order)
                           ORDER BY l.display_order, l.id)
           FROM links l WHERE l.user_id = u.id
       ), '[]')::json AS links
FROM users u
WHERE u.username = @username;

-- name: CardPage :one
-- A card of the user with that username, its owner, and its links in the card's own order.
SELECT c.id AS card_id, c.title,
       u.id, u.username, u.display_name, u.bio, u.pronouns, u.role, u.company, u.avatar_url, u.accent_color,
       coalesce((
           SELECT json_agg(json_build_object('id', l.id, 'platform', l.platform, 'username', l.username,
                                             'url', l.url, 'displayOrder', cl.display_order)
                           ORDER BY cl.display_order, l.id)
           FROM card_links cl JOIN links l ON l.id = cl.link_id
           WHERE cl.card_id = c.id
       ), '[]')::json AS links
FROM cards c
JOIN users u ON u.id = c.user_id
WHERE c.id = @card_id AND u.username = @username;

-- name: LockCardOwner :one
-- Who owns a card. The card cannot be deleted before the transaction ends.
SELECT u.id, u.username
FROM cards c
JOIN users u ON u.id = c.user_id
WHERE c.id = @card_id
FOR KEY SHARE OF c;

-- name: InsertSavedContact :one
-- Returns no row if the user has saved the card before.
INSERT INTO saved_contacts (user_id, card_id, event_id)
VALUES (@user_id, @card_id, @event_id)
ON CONFLICT (user_id, card_id) DO NOTHING
RETURNING created_at;

-- name: SavedAt :one
SELECT created_at FROM saved_contacts WHERE user_id = @user_id AND card_id = @card_id;

-- name: InsertCardViews :exec
-- Writes view rows, one per event; a known event changes nothing. A nil card or
-- viewer and an empty text become null. In order of their ids, so that two
-- replicas with overlapping batches wait for each other and do not deadlock.
INSERT INTO card_views (event_id, owner_id, card_id, viewer_id, viewer_hash, user_agent, source, viewed_at)
SELECT v.event_id, v.owner_id,
       nullif(v.card_id, '00000000-0000-0000-0000-000000000000'),
       nullif(v.viewer_id, '00000000-0000-0000-0000-000000000000'),
       nullif(v.viewer_hash, ''), nullif(v.user_agent, ''), v.source, v.viewed_at
FROM (
    SELECT unnest(@event_ids::uuid[]) AS event_id, unnest(@owner_ids::uuid[]) AS owner_id,
           unnest(@card_ids::uuid[]) AS card_id, unnest(@viewer_ids::uuid[]) AS viewer_id,
           unnest(@viewer_hashes::text[]) AS viewer_hash, unnest(@user_agents::text[]) AS user_agent,
           unnest(@sources::text[]) AS source, unnest(@viewed_ats::timestamptz[]) AS viewed_at
) v
ORDER BY v.event_id
ON CONFLICT (event_id) DO NOTHING;
