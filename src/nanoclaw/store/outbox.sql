-- name: insert_delivery!
-- -> pending; a seq that was collected before is ignored
INSERT INTO outbox (id, session_id, run, seq, turn, reply_to, messaging_group_id, thread_id, text, notice,
  card, approval_id, user_id, edits, state, created_at)
VALUES (:id, :session_id, :run, :seq, :turn, :reply_to, :messaging_group_id, :thread_id, :text, :notice,
  :card, :approval_id, :user_id, :edits, 'pending', :now)
ON CONFLICT (session_id, run, seq) DO NOTHING;

-- name: list_lanes
-- each (session, address) that has a delivery waiting; the first condition is that of the index outbox_waiting
SELECT DISTINCT session_id, messaging_group_id, coalesce(thread_id, '') AS thread FROM outbox
WHERE state IN ('pending', 'sending', 'unknown') AND state <> 'sending';

-- name: take_next^
-- pending -> sending: the oldest of a lane, when its back-off is over and nothing of the lane is before it. A back-off
-- beyond :latest, the longest there is, is from before the clock was set back. `answers` is the platform's id of the
-- message of the same chat that it answers.
UPDATE outbox SET state = 'sending', attempt = attempt + 1
WHERE id = (
  SELECT id FROM outbox WHERE session_id IS :session_id AND messaging_group_id = :messaging_group_id
  AND coalesce(thread_id, '') = :thread AND state IN ('pending', 'sending', 'unknown') ORDER BY id LIMIT 1
) AND state = 'pending' AND (not_before <= :now OR not_before > :latest)
RETURNING *, (SELECT b.platform_id FROM inbox i JOIN inbound b ON b.id = i.inbound_id
  WHERE i.id = outbox.reply_to AND b.messaging_group_id = outbox.messaging_group_id) AS answers,
  (SELECT before.platform_id FROM outbox before WHERE before.id = outbox.edits) AS replaces;

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
-- unknown -> pending: the platform cannot tell, so a possible duplicate is marked where it could be one. The + keeps it
-- from reading all that the channel's chats ever got.
UPDATE outbox SET state = 'pending', maybe_duplicate = :maybe_duplicate
WHERE state IN ('pending', 'sending', 'unknown') AND state = 'unknown' AND +messaging_group_id IN (
  SELECT id FROM messaging_groups WHERE channel_type = :channel_type);

-- name: said_in_turn^
-- two searches, here and below: for an OR of two columns SQLite reads all that the session ever said
SELECT coalesce(sum(notice = 0), 0) AS said, coalesce(sum(notice = 1), 0) AS noticed FROM (
  SELECT id, notice FROM outbox WHERE session_id = :session_id AND turn = :turn
  UNION SELECT id, notice FROM outbox WHERE reply_to = :reply_to);

-- name: list_sent_for
-- what earlier attempts at a row have sent, oldest first
SELECT text FROM outbox WHERE reply_to = :reply_to AND notice = 0 ORDER BY id;

-- name: list_sent
SELECT o.id, o.sent_order, o.text, o.seq, o.notice, o.maybe_duplicate, o.session_id, o.turn, o.reply_to, r.inbound_id
FROM outbox o LEFT JOIN inbox r ON r.id = o.reply_to WHERE o.messaging_group_id = :messaging_group_id AND o.sent_order > :after
ORDER BY o.sent_order LIMIT :most;

-- name: last_sent
SELECT o.id, o.sent_order, o.text, o.seq, o.notice, o.maybe_duplicate, o.session_id, o.turn, o.reply_to, r.inbound_id
FROM outbox o LEFT JOIN inbox r ON r.id = o.reply_to WHERE o.messaging_group_id = :messaging_group_id AND o.sent_order IS NOT NULL
ORDER BY o.sent_order DESC LIMIT :most;

-- name: list_sent_of_message
WITH answers AS (
  SELECT o.id FROM inbox i JOIN outbox o ON o.reply_to = i.id WHERE i.inbound_id = :message
  UNION SELECT o.id FROM inbox i JOIN outbox o ON o.session_id = i.session_id AND o.turn = i.turn
  WHERE i.inbound_id = :message)
SELECT o.id, o.sent_order, o.text, o.seq, o.notice, o.maybe_duplicate, o.session_id, o.turn, o.reply_to, r.inbound_id
FROM answers CROSS JOIN outbox o ON o.id = answers.id LEFT JOIN inbox r ON r.id = o.reply_to
WHERE o.sent_order IS NOT NULL ORDER BY o.sent_order;

-- name: list_answered
-- the accepted messages a delivery answers: the row it replies to, and every row of its turn
SELECT inbound_id FROM inbox WHERE inbound_id IS NOT NULL AND id = :reply_to
UNION SELECT inbound_id FROM inbox WHERE inbound_id IS NOT NULL AND session_id = :session_id AND turn = :turn
ORDER BY inbound_id;

-- name: list_of_message
SELECT o.* FROM inbox i JOIN outbox o ON o.reply_to = i.id WHERE i.inbound_id = :message
UNION SELECT o.* FROM inbox i JOIN outbox o ON o.session_id = i.session_id AND o.turn = i.turn
WHERE i.inbound_id = :message ORDER BY id;

-- name: last_order^
SELECT coalesce(max(sent_order), 0) AS n FROM outbox;

-- name: count_waiting^
SELECT count(*) AS n FROM outbox WHERE state IN ('pending', 'sending', 'unknown');

-- name: newest_id^
SELECT coalesce(max(id), '') AS id FROM outbox;

-- name: keep_newest_order!
UPDATE outbox SET session_id = NULL, seq = NULL, turn = NULL, reply_to = NULL, text = :words, notice = 1, card = NULL,
  approval_id = NULL, edits = NULL, error = NULL
WHERE sent_order = (SELECT max(sent_order) FROM outbox) AND (
  session_id IN (SELECT id FROM sessions WHERE agent_group_id = :agent_group_id)
  OR approval_id IN (SELECT id FROM approvals WHERE agent_group_id = :agent_group_id));

-- name: list_of_group
-- what its conversations said, and the cards that asked about it
SELECT o.id FROM sessions s JOIN outbox o ON o.session_id = s.id WHERE s.agent_group_id = :agent_group_id
UNION SELECT o.id FROM approvals a JOIN outbox o ON o.approval_id = a.id WHERE a.agent_group_id = :agent_group_id
LIMIT :most;

-- name: forget_edited!
UPDATE outbox SET edits = NULL WHERE edits IN (SELECT value FROM json_each(:ids));

-- name: remove_deliveries!
DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(:ids));

-- name: list_cards
-- the cards of a question that somebody has got or will get, and those that failed
SELECT id, session_id, run, messaging_group_id, thread_id, user_id, state FROM outbox
WHERE approval_id = :approval_id AND edits IS NULL ORDER BY id;

-- name: list_open_cards
-- questions that stand open in a thread of a chat: put to this person, or (put to nobody alone) to all who read there;
-- `+`: sort the few that are open, rather than walk all there ever were in order
SELECT DISTINCT a.id, a.code, a.options, coalesce(o.user_id = :user_id, 0) AS mine FROM approvals a
CROSS JOIN outbox o ON o.approval_id = a.id
WHERE a.state = 'open' AND o.messaging_group_id = :messaging_group_id AND coalesce(o.thread_id, '') = :thread
AND o.edits IS NULL AND o.state <> 'failed' ORDER BY +a.id;

-- name: find_last_said^
-- what a card replaced is not said at the end of the chat
SELECT approval_id FROM outbox WHERE messaging_group_id = :messaging_group_id AND sent_order IS NOT NULL
AND edits IS NULL AND coalesce(thread_id, '') = :thread ORDER BY sent_order DESC LIMIT 1;
