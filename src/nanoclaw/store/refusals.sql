-- name: count_refusal!
INSERT INTO refusals (id, channel_type, chat, handle, reason, first_at, last_at)
VALUES (:id, :channel_type, :chat, :handle, :reason, :now, :now)
ON CONFLICT (channel_type, chat, handle, reason) DO UPDATE SET count = count + 1, last_at = excluded.last_at;

-- name: find_since^
SELECT 1 FROM refusals WHERE channel_type = :channel_type AND chat = :chat AND handle = :handle AND reason = :reason
AND last_at > :since;
