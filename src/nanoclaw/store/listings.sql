-- name: groups
SELECT g.id, g.name, g.folder, c.provider, c.model, c.effort, c.cli_scope,
  (SELECT count(*) FROM messaging_group_agents w WHERE w.agent_group_id = g.id) AS chats,
  (SELECT count(*) FROM agent_group_members m WHERE m.agent_group_id = g.id) AS members,
  (SELECT count(*) FROM sessions s WHERE s.agent_group_id = g.id AND s.closed_at IS NULL) AS sessions,
  g.created_at, g.archived_at
FROM agent_groups g JOIN container_configs c ON c.agent_group_id = g.id
WHERE (:id IS NULL OR g.id = :id) AND (:archived = 1 OR g.archived_at IS NULL)
ORDER BY g.created_at, g.id LIMIT :most;

-- name: messaging_groups
SELECT m.id, m.channel_type AS channel, m.platform_id, m.name, m.is_group, m.unknown_sender_policy, m.denied_at,
  (SELECT group_concat(g.name, ', ') FROM messaging_group_agents w JOIN agent_groups g ON g.id = w.agent_group_id
    WHERE w.messaging_group_id = m.id) AS wired_to, m.created_at
FROM messaging_groups m
WHERE (:id IS NULL OR m.id = :id) AND (:channel IS NULL OR m.channel_type = :channel)
  AND (:unknown_sender_policy IS NULL OR m.unknown_sender_policy = :unknown_sender_policy) AND (:denied = 0 OR m.denied_at IS NOT NULL)
ORDER BY m.created_at, m.id LIMIT :most;

-- name: wirings
SELECT w.id, m.channel_type AS channel, coalesce(m.name, m.platform_id) AS chat, g.name AS agent, w.engage_mode,
  w.engage_pattern, w.session_mode, w.sender_scope, w.ignored_message_policy, w.priority, w.messaging_group_id,
  w.agent_group_id, w.created_at
FROM messaging_group_agents w JOIN messaging_groups m ON m.id = w.messaging_group_id
JOIN agent_groups g ON g.id = w.agent_group_id
WHERE (:id IS NULL OR w.id = :id) AND (:group IS NULL OR w.agent_group_id = :group)
  AND (:chat IS NULL OR w.messaging_group_id = :chat)
ORDER BY w.created_at, w.id LIMIT :most;

-- name: users
SELECT u.id, u.name,
  (SELECT group_concat(i.channel_type || ':' || i.handle, ' ') FROM identities i WHERE i.user_id = u.id) AS identities,
  (SELECT group_concat(r.role || coalesce(' of ' || g.name, ''), ', ') FROM user_roles r
    LEFT JOIN agent_groups g ON g.id = r.agent_group_id WHERE r.user_id = u.id) AS roles,
  u.timezone, u.created_at
FROM users u
WHERE (:id IS NULL OR u.id = :id) AND (:name IS NULL OR instr(lower(u.name), lower(:name)) > 0)
  AND (:channel IS NULL OR EXISTS (SELECT 1 FROM identities i WHERE i.user_id = u.id AND i.channel_type = :channel))
ORDER BY u.created_at, u.id LIMIT :most;

-- name: roles
SELECT u.name AS user, r.role, g.name AS agent, b.name AS granted_by, r.granted_at, r.user_id, r.agent_group_id
FROM user_roles r JOIN users u ON u.id = r.user_id LEFT JOIN agent_groups g ON g.id = r.agent_group_id
LEFT JOIN users b ON b.id = r.granted_by
WHERE (:user IS NULL OR r.user_id = :user) AND (:group IS NULL OR r.agent_group_id = :group)
  AND (:role IS NULL OR r.role = :role)
ORDER BY r.granted_at, r.id LIMIT :most;

-- name: members
SELECT u.name AS user, g.name AS agent, b.name AS added_by, m.added_at, m.user_id, m.agent_group_id
FROM agent_group_members m JOIN users u ON u.id = m.user_id JOIN agent_groups g ON g.id = m.agent_group_id
LEFT JOIN users b ON b.id = m.added_by
WHERE (:user IS NULL OR m.user_id = :user) AND (:group IS NULL OR m.agent_group_id = :group)
ORDER BY g.created_at, m.added_at, u.id LIMIT :most;

-- name: destinations
SELECT g.name AS agent, d.local_name AS name, d.target_type AS kind,
  coalesce(m.channel_type || ':' || coalesce(m.name, m.platform_id), t.name) AS target, d.target_id, d.agent_group_id,
  d.created_at
FROM agent_destinations d JOIN agent_groups g ON g.id = d.agent_group_id
LEFT JOIN messaging_groups m ON d.target_type = 'channel' AND m.id = d.target_id
LEFT JOIN agent_groups t ON d.target_type = 'agent' AND t.id = d.target_id
WHERE (:group IS NULL OR d.agent_group_id = :group) AND (:name IS NULL OR d.local_name = :name)
ORDER BY g.created_at, d.local_name LIMIT :most;

-- name: sessions
SELECT s.id, g.name AS agent, m.channel_type AS channel, m.platform_id AS chat, s.thread_id AS thread, s.mode,
  s.run_state AS state, s.fence AS run,
  (SELECT count(*) FROM inbox i WHERE i.session_id = s.id AND i.state IN ('queued', 'claimed')) AS waiting,
  s.last_active_at, s.created_at, s.closed_at, s.agent_group_id,
  CASE p.passed WHEN 1 THEN 'held' WHEN 0 THEN 'failed' END AS wall, p.runtime AS wall_by,
  p.proved_at AS wall_tried_at, p.took_ms AS wall_took_ms,
  (SELECT group_concat(json_extract(c.value, '$.name') || ' ' || json_extract(c.value, '$.finding'), ', ')
    FROM json_each(p.results) c) AS canaries,
  (SELECT group_concat(json_extract(c.value, '$.name') || ' ' || json_extract(c.value, '$.finding'), ', ')
    FROM json_each((SELECT l.results FROM sandbox_proofs l WHERE l.agent_group_id IS NULL AND l.runtime = p.runtime
      AND l.boot = p.boot ORDER BY l.id DESC LIMIT 1)) c) AS wall_limits
FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id
LEFT JOIN messaging_groups m ON m.id = s.messaging_group_id
LEFT JOIN sandbox_proofs p ON p.id = s.proof_id
WHERE (:id IS NULL OR s.id = :id) AND (:group IS NULL OR s.agent_group_id = :group)
  AND (:chat IS NULL OR s.messaging_group_id = :chat) AND (:closed = 1 OR s.closed_at IS NULL)
ORDER BY s.last_active_at DESC, s.id LIMIT :most;

-- name: user_dms
SELECT u.name AS user, d.channel_type AS channel, m.platform_id AS chat, d.resolved_at, d.user_id, d.messaging_group_id
FROM user_dms d JOIN users u ON u.id = d.user_id JOIN messaging_groups m ON m.id = d.messaging_group_id
WHERE (:user IS NULL OR d.user_id = :user) AND (:channel IS NULL OR d.channel_type = :channel)
ORDER BY u.created_at, u.id, d.channel_type LIMIT :most;

-- name: dropped_messages
SELECT channel_type AS channel, chat, handle, reason, count, first_at, last_at FROM refusals
WHERE (:channel IS NULL OR channel_type = :channel) AND (:chat IS NULL OR chat = :chat)
  AND (:reason IS NULL OR reason = :reason)
ORDER BY last_at DESC, id LIMIT :most;

-- name: approvals
SELECT a.id, a.code, a.kind, a.state, g.name AS agent, a.title, a.text, a.created_at, a.expires_at, a.ended_at,
  b.name AS answered_by, a.answer, a.options, a.session_id, a.agent_group_id
FROM approvals a LEFT JOIN agent_groups g ON g.id = a.agent_group_id LEFT JOIN users b ON b.id = a.answered_by
WHERE (:id IS NULL OR a.id = :id) AND (:group IS NULL OR a.agent_group_id = :group)
  AND (:state IS NULL OR a.state = :state) AND (:kind IS NULL OR a.kind = :kind)
ORDER BY a.id DESC LIMIT :most;

-- name: tasks
SELECT t.id, g.name AS agent, t.state, t.next_at, t.schedule, t.timezone, t.context, t.missed, t.prompt, t.session_id,
  u.name AS created_by, t.created_at, t.agent_group_id
FROM tasks t JOIN agent_groups g ON g.id = t.agent_group_id LEFT JOIN users u ON u.id = t.created_by
WHERE (:id IS NULL OR t.id = :id) AND (:group IS NULL OR t.agent_group_id = :group)
  AND (:state IS NULL OR t.state = :state)
ORDER BY t.next_at IS NULL, t.next_at, t.id LIMIT :most;

-- name: audit
SELECT at, event, actor, subject, verdict, reason FROM audit
WHERE (:event IS NULL OR event = :event) AND (:actor IS NULL OR actor = :actor)
  AND (:subject IS NULL OR subject = :subject)
ORDER BY n DESC LIMIT :most;

-- name: find_messaging_groups
SELECT id, channel_type || ':' || coalesce(name, platform_id) AS label, NULL AS agent_group_id,
  CASE WHEN id = upper(:text) THEN 0 WHEN channel_type || ':' || platform_id = :text THEN 1
    WHEN platform_id = :text OR name = :text COLLATE NOCASE THEN 2 ELSE 3 END AS rank
FROM messaging_groups
WHERE substr(id, 1, length(:text)) = upper(:text) OR channel_type || ':' || platform_id = :text OR platform_id = :text
  OR name = :text COLLATE NOCASE
ORDER BY rank, id LIMIT :most;

-- name: find_users
SELECT u.id, NULL AS agent_group_id,
  u.name || coalesce(', ' || (SELECT group_concat(i.channel_type || ':' || i.handle, ' ') FROM identities i
    WHERE i.user_id = u.id), '') AS label,
  CASE WHEN u.id = upper(:text) THEN 0
    WHEN EXISTS (SELECT 1 FROM identities i WHERE i.user_id = u.id AND i.channel_type || ':' || i.handle = :text) THEN 1
    WHEN u.name = :text COLLATE NOCASE THEN 2 ELSE 3 END AS rank
FROM users u
WHERE substr(u.id, 1, length(:text)) = upper(:text) OR u.name = :text COLLATE NOCASE
  OR EXISTS (SELECT 1 FROM identities i WHERE i.user_id = u.id AND i.channel_type || ':' || i.handle = :text)
ORDER BY rank, u.id LIMIT :most;

-- name: find_wirings
SELECT w.id, coalesce(m.name, m.platform_id) || ' -> ' || g.name AS label, w.agent_group_id,
  CASE WHEN w.id = upper(:text) THEN 0 ELSE 3 END AS rank
FROM messaging_group_agents w JOIN messaging_groups m ON m.id = w.messaging_group_id
JOIN agent_groups g ON g.id = w.agent_group_id
WHERE substr(w.id, 1, length(:text)) = upper(:text) ORDER BY rank, w.id LIMIT :most;

-- name: find_sessions
SELECT s.id, g.name AS label, s.agent_group_id, CASE WHEN s.id = upper(:text) THEN 0 ELSE 3 END AS rank
FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id
WHERE substr(s.id, 1, length(:text)) = upper(:text) ORDER BY rank, s.id LIMIT :most;

-- name: find_approvals
SELECT id, title AS label, agent_group_id,
  CASE WHEN id = upper(:text) THEN 0 WHEN state = 'open' AND code = lower(:text) THEN 1 ELSE 3 END AS rank
FROM approvals WHERE substr(id, 1, length(:text)) = upper(:text) OR (state = 'open' AND code = lower(:text))
ORDER BY rank, id LIMIT :most;

-- name: find_tasks
SELECT t.id, g.name AS label, t.agent_group_id, CASE WHEN t.id = upper(:text) THEN 0 ELSE 3 END AS rank
FROM tasks t JOIN agent_groups g ON g.id = t.agent_group_id
WHERE substr(t.id, 1, length(:text)) = upper(:text) ORDER BY rank, t.id LIMIT :most;
