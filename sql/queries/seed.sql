-- name: SeedUser :execrows
-- Writes a demo user, unless the id or the username is known.
INSERT INTO users (id, username, display_name, bio, pronouns, role, company, accent_color)
VALUES (@id, @username, @display_name, @bio, @pronouns, @role, @company, @accent_color)
ON CONFLICT DO NOTHING;

-- name: SeedLink :exec
INSERT INTO links (id, user_id, platform, username, url, display_order)
VALUES (@id, @user_id, @platform, @username, @url, @display_order);

-- name: SeedCard :exec
INSERT INTO cards (id, user_id, title) VALUES (@id, @user_id, @title);

-- name: SeedCardLink :exec
INSERT INTO card_links (card_id, link_id, display_order) VALUES (@card_id, @link_id, @display_order);

-- name: UserID :one
SELECT id FROM users WHERE username = @username;

-- name: SeededEndpoint :one
-- What has become of an endpoint, deleted ones included.
SELECT url, (deleted_at IS NOT NULL)::boolean AS deleted FROM endpoints WHERE id = @id;

-- name: MoveEndpoint :execrows
-- Gives an endpoint another URL, unless it has changed meanwhile.
UPDATE endpoints SET url = @to_url, updated_at = now()
WHERE id = @id AND url = @from_url AND deleted_at IS NULL;

-- name: EndpointsAtPath :many
-- The newest endpoints whose URL contains a path.
SELECT id FROM endpoints
WHERE deleted_at IS NULL AND strpos(url, @path) > 0
ORDER BY id DESC
LIMIT @max_rows::int;
