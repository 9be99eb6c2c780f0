-- name: insert_delivery!
-- -> pending; a seq that was collected before is ignored
INSERT OR IGNORE INTO outbox (id, session_id, run, seq, turn, reply_to, messaging_group_id, thread_id, text, notice,
  state, created_at)
VALUES (:id, :session_id, :run, :seq, :turn, :reply_to, :messaging_group_id, :thread_id, :text, :notice,
  'pending', :now);

-- name: list_lanes
-- each (session, address) that has a delivery waiting; the first condition is that of the index outbox_waiting
SELECT DISTINCT session_id, messaging_group_id, coalesce(thread_id, '') AS thread FROM outbox
WHERE state IN ('pending', 'sending', 'unknown') AND state <> 'sending';

-- name: take_next^
-- pending -> sending: the oldest of a lane, when its back-off is over and nothing of the lane is before it
UPDATE outbox SET state = 'sending', attempt = attempt + 1
WHERE id = (
  SELECT id FROM outbox WHERE session_id = :session_id AND messaging_group_id = :messaging_group_id
  AND coalesce(thread_id, '') = :thread AND state IN ('pending', 'sending', 'unknown') ORDER BY id LIMIT 1
) AND state = 'pending' AND not_before <= :now
RETURNING *;

-- name: next_not_before^
SELECT min(not_before) AS at FROM outbox WHERE session_id = :session_id AND messaging_group_id = :messaging_group_id
AND coalesce(thread_id, '') = :thread AND state = 'pending';

-- name: set_sent!
-- sending -> sent
UPDATE outbox SET state = 'sent', platform_id = :platform_id, ended_at = :now,
  sent_order = (SELECT coalesce(max(sent_order), 0) + 1 FROM outbox)
WHERE id = :id AND state = 'sending' AND attempt = :attempt;

-- name: set_pending!
-- sending -> pending, after an error that may pass
UPDATE outbox SET state = 'pending', not_before = :not_before, error = :error
WHERE id = :id AND state = 'sending' AND attempt = :attempt;

-- name: set_failed!
-- sending -> failed
UPDATE outbox SET state = 'failed', error = :error, ended_at = :now
WHERE id = :id AND state = 'sending' AND attempt = :attempt;

-- name: set_unknown!
-- sending -> unknown: the host died between asking the platform and hearing its answer
UPDATE outbox SET state = 'unknown' WHERE state IN ('pending', 'sending', 'unknown') AND state = 'sending';

-- name: resend_unknown!
-- unknown -> pending: the platform cannot tell, so a possible duplicate is marked where it could be one
UPDATE outbox SET state = 'pending', maybe_duplicate = :maybe_duplicate
WHERE state IN ('pending', 'sending', 'unknown') AND state = 'unknown' AND messaging_group_id IN (
  SELECT id FROM messaging_groups WHERE channel_type = :channel_type);

-- name: said_in_turn^
SELECT coalesce(sum(notice = 0), 0) AS said, coalesce(sum(notice = 1), 0) AS noticed FROM outbox
WHERE session_id = :session_id AND (turn = :turn OR reply_to = :reply_to);

-- name: list_sent_for
-- what earlier attempts at a row have sent, oldest first
SELECT text FROM outbox WHERE session_id = :session_id AND (reply_to = :reply_to OR turn = :turn) AND notice = 0
ORDER BY id;

-- name: list_sent
SELECT o.id, o.sent_order, o.text, o.notice, o.maybe_duplicate, o.session_id, o.turn, o.reply_to, r.inbound_id
FROM outbox o LEFT JOIN inbox r ON r.id = o.reply_to WHERE o.messaging_group_id = :messaging_group_id AND o.sent_order > :after
ORDER BY o.sent_order LIMIT :most;

-- name: last_sent
SELECT o.id, o.sent_order, o.text, o.notice, o.maybe_duplicate, o.session_id, o.turn, o.reply_to, r.inbound_id
FROM outbox o LEFT JOIN inbox r ON r.id = o.reply_to WHERE o.messaging_group_id = :messaging_group_id AND o.sent_order IS NOT NULL
ORDER BY o.sent_order DESC LIMIT :most;

-- name: list_sent_of_message
SELECT DISTINCT o.id, o.sent_order, o.text, o.notice, o.maybe_duplicate, o.session_id, o.turn, o.reply_to, r.inbound_id
FROM inbox i JOIN outbox o ON o.session_id = i.session_id
  AND (o.reply_to = i.id OR (o.turn IS NOT NULL AND o.turn = i.turn))
LEFT JOIN inbox r ON r.id = o.reply_to WHERE i.inbound_id = :message AND o.sent_order IS NOT NULL ORDER BY o.sent_order;

-- name: list_answered
-- the accepted messages a delivery answers: the row it replies to, and every row of its turn
SELECT DISTINCT inbound_id FROM inbox WHERE inbound_id IS NOT NULL AND session_id = :session_id
AND (id = :reply_to OR (turn IS NOT NULL AND turn = :turn)) ORDER BY inbound_id;

-- name: list_of_message
SELECT DISTINCT o.* FROM inbox i JOIN outbox o ON o.session_id = i.session_id
  AND (o.reply_to = i.id OR (o.turn IS NOT NULL AND o.turn = i.turn))
WHERE i.inbound_id = :message ORDER BY o.id;

-- name: last_order^
SELECT coalesce(max(sent_order), 0) AS n FROM outbox;

-- name: count_waiting^
SELECT count(*) AS n FROM outbox WHERE state IN ('pending', 'sending', 'unknown');

-- name: newest_id^
SELECT coalesce(max(id), '') AS id FROM outbox;
