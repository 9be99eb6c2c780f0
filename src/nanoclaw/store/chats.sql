-- name: find_chat^
SELECT id, channel_type, platform_id, is_group, unknown_sender_policy FROM messaging_groups
WHERE channel_type = :channel_type AND account = '' AND platform_id = :platform_id;

-- name: get_chat^
SELECT id, channel_type, platform_id, is_group, unknown_sender_policy FROM messaging_groups WHERE id = :id;

-- name: insert_chat!
INSERT INTO messaging_groups (id, channel_type, platform_id, name, is_group, created_at)
VALUES (:id, :channel_type, :platform_id, :name, :is_group, :now);

-- name: insert_wiring!
INSERT INTO messaging_group_agents (id, messaging_group_id, agent_group_id, engage_mode, engage_pattern, created_at)
VALUES (:id, :messaging_group_id, :agent_group_id, :engage_mode, :engage_pattern, :now);

-- name: list_wirings
SELECT id, agent_group_id, engage_mode, engage_pattern, session_mode, sender_scope, ignored_message_policy
FROM messaging_group_agents WHERE messaging_group_id = :messaging_group_id ORDER BY priority DESC, created_at, id;

-- name: insert_destination!
INSERT INTO agent_destinations (agent_group_id, local_name, target_type, target_id, created_at)
VALUES (:agent_group_id, :local_name, :target_type, :target_id, :now);

-- name: find_destination^
SELECT target_type, target_id FROM agent_destinations
WHERE agent_group_id = :agent_group_id AND local_name = :local_name;

-- name: find_destination_name^
SELECT local_name FROM agent_destinations
WHERE agent_group_id = :agent_group_id AND target_type = 'channel' AND target_id = :target_id;

-- name: list_destinations
SELECT d.local_name, d.target_type, coalesce(m.name, d.local_name) AS display_name
FROM agent_destinations d LEFT JOIN messaging_groups m ON m.id = d.target_id
WHERE d.agent_group_id = :agent_group_id ORDER BY d.local_name;
