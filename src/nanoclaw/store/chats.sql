-- name: find_chat^
SELECT id, channel_type, platform_id, name, is_group, unknown_sender_policy, denied_at FROM messaging_groups
WHERE channel_type = :channel_type AND account = '' AND platform_id = :platform_id;

-- name: get_chat^
SELECT id, channel_type, platform_id, name, is_group, unknown_sender_policy, denied_at FROM messaging_groups WHERE id = :id;

-- name: insert_chat!
INSERT INTO messaging_groups (id, channel_type, platform_id, name, is_group, unknown_sender_policy, created_at)
VALUES (:id, :channel_type, :platform_id, :name, :is_group, :unknown_sender_policy, :now);

-- name: rename_chat!
UPDATE messaging_groups SET name = :name WHERE id = :id;

-- name: insert_wiring!
INSERT INTO messaging_group_agents (id, messaging_group_id, agent_group_id, engage_mode, engage_pattern, session_mode,
  sender_scope, ignored_message_policy, priority, created_at)
VALUES (:id, :messaging_group_id, :agent_group_id, :engage_mode, :engage_pattern, :session_mode,
  :sender_scope, :ignored_message_policy, :priority, :now);

-- name: list_wirings
SELECT w.id, w.agent_group_id, w.engage_mode, w.engage_pattern, w.session_mode, w.sender_scope,
  w.ignored_message_policy, w.priority, g.name AS agent_name
FROM messaging_group_agents w JOIN agent_groups g ON g.id = w.agent_group_id AND g.archived_at IS NULL
WHERE w.messaging_group_id = :messaging_group_id ORDER BY w.priority DESC, w.created_at, w.id;

-- name: insert_destination!
INSERT INTO agent_destinations (agent_group_id, local_name, target_type, target_id, created_at)
VALUES (:agent_group_id, :local_name, :target_type, :target_id, :now);

-- name: find_destination^
SELECT target_type, target_id FROM agent_destinations
WHERE agent_group_id = :agent_group_id AND local_name = :local_name;

-- name: list_knowing
SELECT DISTINCT agent_group_id FROM agent_destinations WHERE target_type = 'agent' AND target_id = :target_id;

-- name: forget_agent!
DELETE FROM agent_destinations WHERE target_type = 'agent' AND target_id = :target_id;

-- name: find_destination_name^
SELECT local_name FROM agent_destinations
WHERE agent_group_id = :agent_group_id AND target_type = 'channel' AND target_id = :target_id;

-- name: find_agent_destination^
SELECT local_name FROM agent_destinations
WHERE agent_group_id = :agent_group_id AND target_type = 'agent' AND target_id = :target_id ORDER BY created_at LIMIT 1;

-- name: list_destinations
-- one whose target is gone or archived is none
SELECT d.local_name, d.target_type, coalesce(m.name, g.name, d.local_name) AS display_name
FROM agent_destinations d
LEFT JOIN messaging_groups m ON d.target_type = 'channel' AND m.id = d.target_id
LEFT JOIN agent_groups g ON d.target_type = 'agent' AND g.id = d.target_id AND g.archived_at IS NULL
WHERE d.agent_group_id = :agent_group_id AND coalesce(m.id, g.id) IS NOT NULL ORDER BY d.local_name;

-- name: subscribe!
INSERT INTO thread_subscriptions (wiring_id, thread_id, subscribed_at) VALUES (:wiring_id, :thread_id, :now)
ON CONFLICT DO NOTHING;

-- name: find_subscription^
SELECT 1 FROM thread_subscriptions WHERE wiring_id = :wiring_id AND thread_id = :thread_id;

-- name: block!
INSERT INTO blocked_senders (messaging_group_id, handle, blocked_by, blocked_at)
VALUES (:messaging_group_id, :handle, :blocked_by, :now) ON CONFLICT DO NOTHING;

-- name: find_block^
SELECT 1 FROM blocked_senders WHERE messaging_group_id = :messaging_group_id AND handle = :handle;

-- name: deny_chat!
-- for good; a chat that is not known yet keeps no name
INSERT INTO messaging_groups (id, channel_type, platform_id, is_group, denied_at, created_at)
VALUES (:id, :channel_type, :platform_id, :is_group, :now, :now)
ON CONFLICT (channel_type, account, platform_id) DO UPDATE SET denied_at = excluded.denied_at;

-- name: open_chat!
UPDATE messaging_groups SET unknown_sender_policy = :unknown_sender_policy, denied_at = NULL WHERE id = :id;

-- name: set_policy!
UPDATE messaging_groups SET unknown_sender_policy = :unknown_sender_policy WHERE id = :id;

-- name: set_denied!
UPDATE messaging_groups SET denied_at = :denied_at WHERE id = :id;

-- name: find_use^
-- whether something that is kept names a chat
SELECT 1 WHERE EXISTS (SELECT 1 FROM sessions WHERE messaging_group_id = :id)
  OR EXISTS (SELECT 1 FROM inbound WHERE messaging_group_id = :id)
  OR EXISTS (SELECT 1 FROM outbox WHERE messaging_group_id = :id)
  OR EXISTS (SELECT 1 FROM approvals WHERE messaging_group_id = :id);

-- name: remove_chat!
DELETE FROM messaging_groups WHERE id = :id;

-- name: remove_wirings_of!
DELETE FROM messaging_group_agents WHERE messaging_group_id = :id;

-- name: list_senders
SELECT DISTINCT agent_group_id FROM agent_destinations WHERE target_type = 'channel' AND target_id = :id;

-- name: remove_destinations_to!
DELETE FROM agent_destinations WHERE target_type = 'channel' AND target_id = :id;

-- name: set_rules!
UPDATE messaging_group_agents SET engage_mode = :engage_mode, engage_pattern = :engage_pattern,
  session_mode = :session_mode, sender_scope = :sender_scope, ignored_message_policy = :ignored_message_policy,
  priority = :priority
WHERE id = :id;

-- name: remove_wiring!
DELETE FROM messaging_group_agents WHERE id = :id;

-- name: remove_destination!
DELETE FROM agent_destinations WHERE agent_group_id = :agent_group_id AND local_name = :local_name;
