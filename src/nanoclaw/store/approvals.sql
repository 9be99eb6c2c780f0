-- name: insert_approval!
-- -> open
INSERT INTO approvals (id, kind, state, agent_group_id, session_id, messaging_group_id, asked_user_id, code, subject, title,
  text, channel, options, payload, waits_run, waits_seq, waits_until, created_at, expires_at)
VALUES (:id, :kind, 'open', :agent_group_id, :session_id, :messaging_group_id, :asked_user_id, :code, :subject, :title,
  :text, :channel, :options, :payload, :waits_run, :waits_seq, :waits_until, :now, :expires_at);

-- name: find_approval^
SELECT * FROM approvals WHERE id = :id;

-- name: find_open^
SELECT * FROM approvals WHERE state = 'open' AND kind = :kind AND subject = :subject;

-- name: find_code^
SELECT 1 FROM approvals WHERE state = 'open' AND code = :code;

-- name: list_open
-- `+`: sort the few that are open, rather than walk all there ever were in order
SELECT * FROM approvals WHERE state = 'open' ORDER BY +id;

-- name: has_open^
SELECT 1 FROM approvals WHERE state = 'open' LIMIT 1;

-- name: count_open^
-- agents' own: of one session, of one agent group (whoever decides), of all; strangers': of one chat, of all
SELECT coalesce(sum(asked_by_agent AND session_id IS :session_id), 0) AS of_session,
  coalesce(sum(asked_by_agent AND asking_group IS :agent_group_id), 0) AS of_group,
  coalesce(sum(asked_by_agent), 0) AS of_agents,
  coalesce(sum(NOT asked_by_agent AND messaging_group_id IS :messaging_group_id), 0) AS of_chat,
  coalesce(sum(NOT asked_by_agent), 0) AS of_strangers
FROM (SELECT a.kind IN ('agent_request', 'egress', 'question') AS asked_by_agent, a.session_id, a.messaging_group_id,
    coalesce(s.agent_group_id, a.agent_group_id) AS asking_group
  FROM approvals a LEFT JOIN sessions s ON s.id = a.session_id WHERE a.state = 'open');

-- name: end_approval!
-- open -> approved | denied | expired
UPDATE approvals SET state = :state, answer = :answer, answered_by = :answered_by, ended_at = :now, payload = :payload,
  answer_message = coalesce(:answer_message, answer_message),
  waits_run = NULL, waits_seq = NULL, waits_until = NULL, text_from = NULL, text_in = NULL, text_value = NULL, text_until = NULL
WHERE id = :id AND state = 'open';

-- name: set_payload!
UPDATE approvals SET payload = :payload WHERE id = :id;

-- name: find_denied^
-- among the newest, so that it costs the same however many there ever were
SELECT * FROM (SELECT * FROM approvals ORDER BY rowid DESC LIMIT 1000)
WHERE state = 'denied' AND kind = :kind AND subject = :subject AND ended_at > :since ORDER BY ended_at DESC LIMIT 1;

-- name: list_owing
-- walks all there ever were: asked once at each start of the gateway
SELECT * FROM approvals WHERE kind = :kind AND state IN ('approved', 'denied') AND json_array_length(payload, '$.owed') > 0
ORDER BY +id;

-- name: list_expired
SELECT * FROM approvals WHERE state = 'open' AND expires_at <= :now ORDER BY expires_at LIMIT :most;

-- name: list_of_group
SELECT * FROM approvals WHERE state = 'open' AND agent_group_id = :agent_group_id ORDER BY +id;

-- name: list_waited_for
SELECT * FROM approvals WHERE waits_until <= :now ORDER BY waits_until LIMIT :most;

-- name: find_due^
SELECT 1 WHERE EXISTS (SELECT 1 FROM approvals WHERE state = 'open' AND expires_at <= :now)
  OR EXISTS (SELECT 1 FROM approvals WHERE waits_until <= :now);

-- name: set_wait!
UPDATE approvals SET waits_run = :run, waits_seq = :seq, waits_until = :until WHERE id = :id AND state = 'open';

-- name: set_words!
-- the next message of this person in this chat is the words of this option; all NULL: no longer
UPDATE approvals SET text_from = :user_id, text_in = :messaging_group_id, text_value = :value, text_until = :until,
  answer_message = coalesce(:answer_message, answer_message)
WHERE id = :id AND state = 'open';

-- name: find_wanting_words^
SELECT * FROM approvals WHERE text_from = :user_id AND text_in = :messaging_group_id AND text_until > :now
ORDER BY text_until DESC LIMIT 1;

-- name: find_by_message^
SELECT * FROM approvals WHERE answer_message = :answer_message LIMIT 1;

-- name: list_of_session
SELECT * FROM approvals WHERE session_id = :session_id AND created_at BETWEEN :since AND :until ORDER BY id;
