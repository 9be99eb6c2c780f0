-- name: insert_code!
INSERT INTO pairing_codes (id, user_id, code_hash, tries_left, created_at, expires_at)
VALUES (:id, :user_id, :code_hash, :tries_left, :now, :expires_at);

-- name: withdraw_codes!
-- a user has one open code at most
UPDATE pairing_codes SET used_at = :now WHERE user_id = :user_id AND used_at IS NULL;

-- name: list_open_codes
SELECT id, user_id, code_hash FROM pairing_codes WHERE used_at IS NULL AND expires_at > :now AND tries_left > 0 ORDER BY id;

-- name: count_try!
UPDATE pairing_codes SET tries_left = tries_left - 1 WHERE used_at IS NULL AND expires_at > :now AND tries_left > 0;

-- name: use_code!
UPDATE pairing_codes SET used_at = :now WHERE id = :id AND used_at IS NULL AND expires_at > :now AND tries_left > 0;
