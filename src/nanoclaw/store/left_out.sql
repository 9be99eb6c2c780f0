-- name: list_left_out
SELECT * FROM left_out_mounts WHERE agent_group_id = :agent_group_id ORDER BY source;

-- name: put_left_out!
-- mounted, or left out for another reason -> left out
INSERT INTO left_out_mounts (agent_group_id, source, reason, words, since)
VALUES (:agent_group_id, :source, :reason, :words, :now)
ON CONFLICT (agent_group_id, source) DO UPDATE SET reason = :reason, words = :words, since = :now;

-- name: remove_left_out!
-- left out -> mounted, or forgotten
DELETE FROM left_out_mounts WHERE agent_group_id = :agent_group_id AND source = :source;
