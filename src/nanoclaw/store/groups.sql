-- name: insert_group!
INSERT INTO agent_groups (id, name, folder, box_uid, created_at)
VALUES (:id, :name, :folder, (SELECT coalesce(max(box_uid) + 1, 0) FROM agent_groups), :now);

-- name: insert_config!
INSERT INTO container_configs (agent_group_id, instructions, updated_at) VALUES (:agent_group_id, :instructions, :now);

-- name: set_provider!
UPDATE container_configs SET provider = :provider, updated_at = :now WHERE agent_group_id = :agent_group_id;

-- name: get_group^
SELECT g.id, g.name, g.folder, g.box_uid, g.archived_at, c.provider, c.model, c.effort, c.instructions,
  c.cli_scope
FROM agent_groups g JOIN container_configs c ON c.agent_group_id = g.id WHERE g.id = :id;

-- name: find_group_by_folder^
SELECT id FROM agent_groups WHERE folder = :folder AND archived_at IS NULL;

-- name: list_groups
SELECT g.id, g.name, g.folder, g.box_uid, g.archived_at, c.provider, c.model, c.effort, c.instructions,
  c.cli_scope
FROM agent_groups g JOIN container_configs c ON c.agent_group_id = g.id
WHERE g.archived_at IS NULL ORDER BY g.created_at, g.id;
