-- name: insert_group!
-- the lowest number that no group has: the uids of an install are limited, and an erased group has left no file behind
INSERT INTO agent_groups (id, name, folder, box_uid, created_at)
VALUES (:id, :name, :folder, (
  SELECT CASE WHEN NOT EXISTS (SELECT 1 FROM agent_groups WHERE box_uid = 0) THEN 0
    ELSE (SELECT min(a.box_uid) + 1 FROM agent_groups a
      WHERE NOT EXISTS (SELECT 1 FROM agent_groups b WHERE b.box_uid = a.box_uid + 1)) END), :now);

-- name: insert_config!
INSERT INTO container_configs (agent_group_id, instructions, updated_at) VALUES (:agent_group_id, :instructions, :now);

-- name: set_config!
UPDATE container_configs SET provider = :provider, model = :model, effort = :effort, runtime = :runtime,
  max_messages_per_prompt = :max_messages_per_prompt, skills = :skills, mcp_servers = :mcp_servers,
  additional_mounts = :additional_mounts, limits = :limits, instructions = :instructions, cli_scope = :cli_scope,
  require_kernel = :require_kernel, packages_apt = :packages_apt, packages_npm = :packages_npm,
  packages_pip = :packages_pip, packages_set = :packages_set, updated_at = :now
WHERE agent_group_id = :agent_group_id;

-- name: get_config^
SELECT * FROM container_configs WHERE agent_group_id = :agent_group_id;

-- name: get_group^
SELECT g.id, g.name, g.folder, g.box_uid, g.created_at, g.archived_at, g.purging_at, c.provider, c.model, c.effort,
  c.instructions, c.cli_scope
FROM agent_groups g JOIN container_configs c ON c.agent_group_id = g.id WHERE g.id = :id;

-- name: find_group_by_folder^
SELECT id FROM agent_groups WHERE folder = :folder AND archived_at IS NULL;

-- name: list_groups
SELECT g.id, g.name, g.folder, g.box_uid, g.created_at, g.archived_at, g.purging_at, c.provider, c.model, c.effort,
  c.instructions, c.cli_scope
FROM agent_groups g JOIN container_configs c ON c.agent_group_id = g.id ORDER BY g.created_at, g.id;

-- name: rename_group!
UPDATE agent_groups SET name = :name WHERE id = :id;

-- name: archive_group!
UPDATE agent_groups SET archived_at = :now WHERE id = :id AND archived_at IS NULL;

-- name: restore_group!
UPDATE agent_groups SET archived_at = NULL WHERE id = :id AND archived_at IS NOT NULL AND purging_at IS NULL;

-- name: begin_purge!
UPDATE agent_groups SET purging_at = coalesce(purging_at, :now) WHERE id = :id AND archived_at IS NOT NULL;

-- name: remove_group!
DELETE FROM agent_groups WHERE id = :id AND purging_at IS NOT NULL;
