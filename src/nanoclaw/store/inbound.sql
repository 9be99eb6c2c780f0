-- name: find_accepted^
SELECT id FROM inbound WHERE channel_type = :channel_type AND account = ''
AND messaging_group_id = :messaging_group_id AND platform_id = :platform_id;

-- name: insert_inbound!
INSERT INTO inbound (id, channel_type, platform_id, messaging_group_id, thread_id, sender, sender_name, user_id,
  text, reply_to, is_group, is_mention, sent_at, accepted_at)
VALUES (:id, :channel_type, :platform_id, :messaging_group_id, :thread_id, :sender, :sender_name, :user_id,
  :text, :reply_to, :is_group, :is_mention, :sent_at, :now);

-- name: set_cursor!
INSERT INTO cursors (channel_type, cursor, updated_at) VALUES (:channel_type, :cursor, :now)
ON CONFLICT (channel_type, account) DO UPDATE SET cursor = excluded.cursor, updated_at = excluded.updated_at;

-- name: get_inbound^
SELECT * FROM inbound WHERE id = :id;

-- name: find_by_prefix
SELECT id FROM inbound WHERE id >= :prefix AND id < :after ORDER BY id LIMIT 2;

-- name: remove_unread!
DELETE FROM inbound WHERE id IN (SELECT value FROM json_each(:ids))
AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.inbound_id = inbound.id);

-- name: find_by_platform_id
SELECT id FROM inbound WHERE platform_id = :platform_id ORDER BY id LIMIT 2;
