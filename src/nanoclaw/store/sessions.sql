-- name: find_session^
SELECT id FROM sessions WHERE closed_at IS NULL AND agent_group_id = :agent_group_id AND mode = :mode
AND coalesce(messaging_group_id, '') = coalesce(:messaging_group_id, '')
AND coalesce(thread_id, '') = coalesce(:thread_id, '');

-- name: insert_session!
INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, mode, last_active_at, created_at)
VALUES (:id, :agent_group_id, :messaging_group_id, :thread_id, :mode, :now, :now);

-- name: get_session^
SELECT * FROM sessions WHERE id = :id;

-- name: list_sessions
SELECT * FROM sessions WHERE closed_at IS NULL ORDER BY last_active_at DESC, id;

-- name: close_session!
-- the next message begins another
UPDATE sessions SET closed_at = :now WHERE id = :id AND closed_at IS NULL;

-- name: list_idle
-- sessions of a thread in which nothing has happened since :before, and for which nothing waits or is asked
SELECT s.id FROM sessions s WHERE s.closed_at IS NULL AND s.mode = 'per-thread' AND s.thread_id IS NOT NULL
AND s.run_state = 'over' AND s.last_active_at < :before
AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.session_id = s.id AND i.state = 'queued' AND i.trigger = 1)
AND NOT EXISTS (SELECT 1 FROM approvals a WHERE a.session_id = s.id AND a.state = 'open')
AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.session_id = s.id AND t.state <> 'ended') LIMIT :most;

-- name: list_live
SELECT * FROM sessions WHERE run_state <> 'over';

-- name: list_due
-- sessions that have a trigger row waiting, and a live run that may take it or no run and a back-off that is over (one
-- beyond :latest, the longest there is, is from before the clock was set back); CROSS: from the few that wait
SELECT DISTINCT s.id FROM inbox i CROSS JOIN sessions s ON s.id = i.session_id
WHERE i.state = 'queued' AND i.trigger = 1 AND (s.run_state IN ('starting', 'running')
  OR s.run_state = 'over' AND (s.not_before <= :now OR s.not_before > :latest));

-- name: take_seq^
-- the next even message number of a session
UPDATE sessions SET last_seq = last_seq + 2 - last_seq % 2, last_active_at = :now WHERE id = :id RETURNING last_seq;

-- name: raise_fence^
-- over -> starting; the fence is raised at every start
UPDATE sessions SET fence = fence + 1, run_state = 'starting', run_changed_at = :now,
  collected_message = last_seq, collected_ack = 0, last_active_at = :now
WHERE id = :id AND run_state = 'over' RETURNING fence, last_seq;

-- name: set_running!
-- starting -> running
UPDATE sessions SET run_state = 'running', run_changed_at = :now, 
  proof_id = coalesce((SELECT p.id FROM sandbox_proofs p WHERE p.id = :proof), proof_id)
WHERE id = :id AND fence = :fence AND run_state = 'starting';

-- name: set_proof!
UPDATE sessions SET proof_id = :proof WHERE id = :id;

-- name: set_stopping!
-- starting, running -> stopping
UPDATE sessions SET run_state = 'stopping', run_changed_at = :now
WHERE id = :id AND fence = :fence AND run_state IN ('starting', 'running');

-- name: set_over!
-- any -> over
UPDATE sessions SET run_state = 'over', run_changed_at = :now, not_before = max(not_before, :not_before)
WHERE id = :id AND fence = :fence AND run_state <> 'over';

-- name: set_collected!
UPDATE sessions SET collected_message = :message, collected_ack = :ack, last_seq = max(last_seq, :message),
  continuation = coalesce(:continuation, continuation), last_active_at = :now
WHERE id = :id AND fence = :fence AND run_state <> 'over';

-- name: list_of_group
SELECT * FROM sessions WHERE agent_group_id = :agent_group_id ORDER BY created_at, id;

-- name: remove_of_group!
DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE agent_group_id = :agent_group_id LIMIT :most);

-- name: list_asked
SELECT * FROM sessions WHERE messaging_group_id IS NULL AND thread_id = :thread_id;
