-- name: insert_build!
-- nothing -> queued
INSERT INTO package_builds (id, agent_group_id, session_id, state, wanted, asked_by, asked_at)
VALUES (:id, :agent_group_id, :session_id, 'queued', :wanted, :asked_by, :now);

-- name: begin_build!
-- queued, or left by a dead host -> building
UPDATE package_builds SET state = 'building' WHERE id = :id AND ended_at IS NULL;

-- name: end_build!
-- building -> done | failed
UPDATE package_builds SET state = :state, detail = :detail, ended_at = :now WHERE id = :id AND state = 'building';

-- name: prune_builds!
-- the newest one that was done stays: it says when the set in use was made
DELETE FROM package_builds WHERE agent_group_id = :agent_group_id AND ended_at IS NOT NULL
  AND id NOT IN (SELECT id FROM package_builds WHERE agent_group_id = :agent_group_id
    ORDER BY asked_at DESC, id DESC LIMIT :most)
  AND id NOT IN (SELECT id FROM package_builds WHERE agent_group_id = :agent_group_id AND state = 'done'
    ORDER BY ended_at DESC, id DESC LIMIT 1);

-- name: find_next^
-- the oldest that is not over, but of groups that were put away; one that a dead host began comes first by its age
SELECT b.* FROM package_builds b JOIN agent_groups g ON g.id = b.agent_group_id
WHERE b.ended_at IS NULL AND g.archived_at IS NULL ORDER BY b.asked_at, b.id LIMIT 1;

-- name: find_build^
SELECT * FROM package_builds WHERE id = :id;

-- name: count_open^
SELECT count(*) AS open FROM package_builds WHERE agent_group_id = :agent_group_id AND ended_at IS NULL;

-- name: list_of_group
SELECT * FROM package_builds WHERE agent_group_id = :agent_group_id ORDER BY asked_at DESC, id DESC LIMIT :most;

-- name: last_end^
SELECT max(ended_at) AS ended_at FROM package_builds WHERE agent_group_id = :agent_group_id AND state = 'done';
