-- name: insert_row!
-- -> queued; -> done when it has an outcome already
INSERT INTO inbox (id, inbound_id, session_id, wiring_id, seq, kind, trigger, content, routed_by, admitted_by,
  from_session_id, from_inbox_id, from_turn, return_session_id, return_inbox_id, hops, files, state, turn, outcome,
  queued_at, ended_at)
VALUES (:id, :inbound_id, :session_id, :wiring_id, :seq, :kind, :trigger, :content, :routed_by, :admitted_by,
  :from_session_id, :from_inbox_id, :from_turn, :return_session_id, :return_inbox_id, :hops, :files,
  iif(:outcome IS NULL, 'queued', 'done'), :turn, :outcome, :now, iif(:outcome IS NULL, NULL, :now));

-- name: trim_context!
-- queued -> done: of what was overheard, and of notes, before each trigger (and after the last) all but the newest :most
UPDATE inbox SET state = 'done', outcome = 'silent', ended_at = :now WHERE id IN (
  SELECT id FROM (
    SELECT id, trigger, kind, row_number() OVER (PARTITION BY trigger, kind, triggers_after ORDER BY seq DESC) AS place
    FROM (SELECT id, seq, trigger, kind, sum(trigger) OVER (ORDER BY seq DESC) AS triggers_after
      FROM inbox WHERE session_id = :session_id AND state = 'queued'))
  WHERE trigger = 0 AND place > :most);

-- name: end_context!
-- queued -> done: what was overheard and never rode along
UPDATE inbox SET state = 'done', outcome = 'silent', ended_at = :now
WHERE session_id = :session_id AND state = 'queued' AND trigger = 0;

-- name: list_waiting
SELECT id FROM inbox WHERE session_id = :session_id AND state = 'queued' ORDER BY seq;

-- name: move_row!
-- queued, in another session
UPDATE inbox SET session_id = :session_id, seq = :seq WHERE id = :id AND state = 'queued';

-- name: describe_work^
SELECT count(*) FILTER (WHERE state = 'claimed') AS held, count(*) FILTER (WHERE state = 'queued') AS waiting,
  min(claimed_at) FILTER (WHERE state = 'claimed') AS since
FROM (SELECT state, claimed_at FROM inbox WHERE session_id = :session_id AND state = 'claimed' AND trigger = 1
  UNION ALL SELECT state, claimed_at FROM inbox WHERE session_id = :session_id AND state = 'queued' AND trigger = 1);

-- name: claim_rows!
-- queued -> claimed, for the live run alone: at most :most rows, but always up to a trigger row, with all context before
-- it: what ends in context would never be answered. A row that has failed before is claimed alone, with the context
-- before it, and nothing joins it.
UPDATE inbox SET state = 'claimed', attempt = attempt + 1, run = :run, claimed_at = :now
WHERE session_id = :session_id AND state = 'queued' AND seq <= (
  WITH waiting AS (SELECT seq, trigger, failures FROM inbox WHERE session_id = :session_id AND state = 'queued'),
    first AS (SELECT seq FROM waiting WHERE trigger = 1 ORDER BY seq LIMIT 1),
    batch AS (SELECT seq, trigger FROM waiting
      WHERE seq < coalesce((SELECT min(seq) FROM waiting WHERE trigger = 1 AND failures > 0), 1 << 62)
      ORDER BY seq LIMIT :most)
  SELECT max(first.seq, coalesce((SELECT max(seq) FROM batch WHERE trigger = 1), 0)) FROM first)
AND EXISTS (SELECT 1 FROM sessions s WHERE s.id = :session_id AND s.fence = :run
  AND s.run_state IN ('starting', 'running'))
AND NOT EXISTS (SELECT 1 FROM inbox held WHERE held.session_id = :session_id AND held.state = 'claimed'
  AND held.failures > 0);

-- name: list_claimed
SELECT i.id, i.seq, i.attempt, i.failures, i.kind, i.trigger, i.content, i.inbound_id,
  i.routed_by, i.from_session_id, i.files,
  b.text, b.sender, b.sender_name, b.sent_at, b.messaging_group_id, b.is_group, b.is_mention, b.user_id,
  CASE WHEN i.kind = 'task' THEN (SELECT task_id FROM task_runs WHERE inbox_id = i.id) END AS task
FROM inbox i LEFT JOIN inbound b ON b.id = i.inbound_id
WHERE i.session_id = :session_id AND i.state = 'claimed' AND i.run = :run ORDER BY i.seq;

-- name: find_by_seq^
SELECT i.id, i.session_id, i.seq, i.attempt, i.state, i.run, i.inbound_id, i.turn, i.from_session_id,
  i.return_session_id, i.return_inbox_id, i.hops, b.messaging_group_id, b.thread_id, b.user_id
FROM inbox i LEFT JOIN inbound b ON b.id = i.inbound_id
WHERE i.session_id = :session_id AND i.seq = :seq;

-- name: find_by_id^
SELECT i.id, i.session_id, i.seq, i.attempt, i.state, i.run, i.inbound_id, i.turn, i.from_session_id,
  i.return_session_id, i.return_inbox_id, i.hops, b.messaging_group_id, b.thread_id, b.user_id
FROM inbox i LEFT JOIN inbound b ON b.id = i.inbound_id
WHERE i.id = :id;

-- name: find_work^
-- the row that a run works on, the one that passed the most agents first; when it works on none, the last it got
SELECT i.id, i.session_id, i.seq, i.attempt, i.state, i.run, i.inbound_id, i.turn, i.from_session_id,
  i.return_session_id, i.return_inbox_id, i.hops, b.messaging_group_id, b.thread_id, b.user_id
FROM inbox i LEFT JOIN inbound b ON b.id = i.inbound_id
WHERE i.session_id = :session_id AND i.run = :run AND i.trigger = 1
ORDER BY i.state = 'claimed' DESC, iif(i.state = 'claimed', i.hops, i.seq) DESC, i.seq DESC LIMIT 1;

-- name: what_was_written^
-- what an agent wrote to other agents in a turn or for a row: answers, notes that there is none, questions of its own
SELECT coalesce(sum(routed_by = 'agent-answer'), 0) AS answers, coalesce(sum(routed_by = 'agent-note'), 0) AS notes,
  coalesce(sum(routed_by = 'agent' AND outcome IS NULL), 0) AS asked FROM (
  SELECT id, routed_by, outcome FROM inbox WHERE from_session_id = :session_id AND from_turn = :turn
  UNION SELECT id, routed_by, outcome FROM inbox WHERE from_inbox_id = :id);

-- name: list_written_for
-- what was written to other agents for a row, oldest first
SELECT g.name, json_extract(i.content, '$.text') AS text FROM inbox i JOIN sessions s ON s.id = i.session_id
JOIN agent_groups g ON g.id = s.agent_group_id
WHERE i.from_inbox_id = :id AND i.routed_by IN ('agent', 'agent-answer') ORDER BY i.id;

-- name: find_conversation^
-- The conversation of row :id: `above` climbs from an answer to the row of its session that asked, `below` is all that
-- this one led to. `waits`: some of it is under way. `heard`: whoever waits for this session's answer got one already. CROSS: from the few
-- rows of the conversation, not from all of the session.
WITH RECURSIVE above (id, session_id, routed_by, cause, level) AS (
    SELECT id, session_id, routed_by, from_inbox_id, 0 FROM inbox WHERE id = :id
    UNION ALL
    SELECT p.id, p.session_id, p.routed_by, p.from_inbox_id, a.level + 1 FROM above a JOIN inbox p ON p.id = a.cause
    WHERE NOT (a.session_id = :session_id AND a.routed_by NOT IN ('agent-answer', 'agent-note')) AND a.level < 64),
  below (id) AS (
    SELECT id FROM (SELECT id FROM above ORDER BY level DESC LIMIT 1)
    UNION SELECT c.id FROM below b JOIN inbox c ON c.from_inbox_id = b.id)
SELECT EXISTS (SELECT 1 FROM below CROSS JOIN inbox i ON i.id = below.id
    WHERE i.id <> :id AND i.outcome IS NULL AND i.trigger = 1) AS waits,
  EXISTS (SELECT 1 FROM below CROSS JOIN inbox i ON i.id = below.id AND i.session_id = :session_id
    CROSS JOIN outbox o ON o.reply_to = i.id AND o.notice = 0)
  OR EXISTS (SELECT 1 FROM below CROSS JOIN inbox i ON i.id = below.id AND i.session_id = :session_id
    CROSS JOIN inbox k ON k.from_inbox_id = i.id AND k.routed_by = 'agent-answer') AS heard;

-- name: list_files
-- what the host keeps for messages that wait or are worked on
SELECT files FROM inbox WHERE state = 'queued' AND files <> '[]'
UNION ALL SELECT files FROM inbox WHERE state = 'claimed' AND files <> '[]';

-- name: count_between^
-- what two agent groups wrote to each other since :since, and whether a limit between them was told of since then
SELECT coalesce(sum(i.routed_by IN ('agent', 'agent-answer')), 0) AS written,
  coalesce(sum(i.routed_by = 'agent-limit'), 0) AS told
FROM inbox i JOIN sessions f ON f.id = i.from_session_id JOIN sessions t ON t.id = i.session_id
WHERE i.from_session_id IS NOT NULL AND i.queued_at > :since AND (
  f.agent_group_id = :first AND t.agent_group_id = :second OR f.agent_group_id = :second AND t.agent_group_id = :first);

-- name: finish_row!
-- claimed -> done
UPDATE inbox SET state = 'done', outcome = :outcome, turn = :turn, ended_at = :now
WHERE session_id = :session_id AND seq = :seq AND state = 'claimed' AND run = :run AND attempt = :attempt;

-- name: requeue_row!
-- claimed -> queued; its seq keeps its place
UPDATE inbox SET state = 'queued', run = NULL, failures = failures + :blame
WHERE id = :id AND state = 'claimed' AND run = :run AND attempt = :attempt;

-- name: bury_row!
-- claimed -> dead
UPDATE inbox SET state = 'dead', outcome = 'failed', ended_at = :now
WHERE id = :id AND state = 'claimed' AND run = :run AND attempt = :attempt;

-- name: count_claimed^
SELECT count(*) AS n FROM inbox WHERE session_id = :session_id AND state = 'claimed' AND run = :run AND trigger = 1;

-- name: has_waiting_trigger^
SELECT 1 FROM inbox WHERE session_id = :session_id AND state = 'queued' AND trigger = 1 LIMIT 1;

-- name: count_waiting^
SELECT (SELECT count(*) FROM inbox WHERE state = 'queued' AND trigger = 1)
  + (SELECT count(*) FROM inbox WHERE state = 'claimed' AND trigger = 1) AS n;

-- name: list_settled
-- messages whose every inbox row has an outcome and whose every delivery is sent or failed
-- The outcome is that of the rows whose answers go to the chat, the gravest of them: their words happen to be in that
-- order (failed, refused, replied, silent). What one agent was to answer another is not a person's.
SELECT b.id AS message, min(i.outcome) FILTER (WHERE i.return_session_id IS NULL) AS outcome
FROM inbound b JOIN inbox i ON i.inbound_id = b.id
WHERE b.id IN (SELECT value FROM json_each(:messages))
GROUP BY b.id
HAVING sum(i.outcome IS NULL) = 0 AND NOT EXISTS (
  SELECT 1 FROM inbox j JOIN outbox o ON o.session_id = j.session_id
    AND (o.reply_to = j.id OR (o.turn IS NOT NULL AND o.turn = j.turn))
  WHERE j.inbound_id = b.id AND o.state IN ('pending', 'sending', 'unknown'));

-- name: list_of_message
SELECT i.*, s.agent_group_id, g.name AS agent_name FROM inbox i JOIN sessions s ON s.id = i.session_id
JOIN agent_groups g ON g.id = s.agent_group_id WHERE i.inbound_id = :inbound_id ORDER BY i.id;

-- name: list_open
-- the trigger rows of a session that have no outcome
SELECT i.id, i.session_id, i.seq, i.attempt, i.state, i.run, i.inbound_id, i.turn, i.from_session_id,
  i.return_session_id, i.return_inbox_id, i.hops, b.messaging_group_id, b.thread_id, b.user_id
FROM inbox i LEFT JOIN inbound b ON b.id = i.inbound_id
WHERE i.session_id = :session_id AND i.state IN ('queued', 'claimed') AND i.trigger = 1 ORDER BY i.seq;

-- name: bury_open!
-- queued, claimed -> dead; context -> done
UPDATE inbox SET state = CASE trigger WHEN 1 THEN 'dead' ELSE 'done' END,
  outcome = CASE trigger WHEN 1 THEN 'failed' ELSE 'silent' END, ended_at = :now
WHERE session_id = :session_id AND state IN ('queued', 'claimed');

-- name: find_awaited^
-- what another agent has not finished that this one asked or told it
SELECT 1 FROM sessions s JOIN inbox i ON i.return_session_id = s.id OR i.from_session_id = s.id
WHERE s.agent_group_id = :agent_group_id AND i.state IN ('queued', 'claimed') LIMIT 1;

-- name: list_of_group
SELECT i.id, i.inbound_id FROM sessions s JOIN inbox i ON i.session_id = s.id
WHERE s.agent_group_id = :agent_group_id LIMIT :most;

-- name: remove_rows!
DELETE FROM inbox WHERE id IN (SELECT value FROM json_each(:ids));

-- name: forget_sender!
UPDATE inbox SET from_session_id = NULL, return_session_id = NULL
WHERE from_session_id IN (SELECT id FROM sessions WHERE agent_group_id = :agent_group_id)
OR return_session_id IN (SELECT id FROM sessions WHERE agent_group_id = :agent_group_id);

-- name: bury_answers!
-- queued -> dead: what an agent that was asked has answered, and nobody waits for any more; a note ends silent
UPDATE inbox SET state = iif(trigger = 1, 'dead', 'done'), outcome = iif(trigger = 1, 'failed', 'silent'), ended_at = :now
WHERE session_id = :session_id AND state = 'queued' AND from_session_id = :from_session_id;

-- name: fail_waiting!
-- done stays done: its turn had ended silent because others were to answer first, and these were stopped
UPDATE inbox SET outcome = 'failed'
WHERE inbound_id = :inbound_id AND session_id = :session_id AND trigger = 1 AND state = 'done' AND outcome = 'silent';
