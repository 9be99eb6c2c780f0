-- name: find_user_by_identity^
SELECT user_id FROM identities WHERE channel_type = :channel_type AND handle = :handle;

-- name: insert_user!
INSERT INTO users (id, name, created_at) VALUES (:id, :name, :now);

-- name: rename_user!
UPDATE users SET name = :name WHERE id = :id;

-- name: insert_identity!
INSERT INTO identities (channel_type, handle, user_id, display_name, created_at)
VALUES (:channel_type, :handle, :user_id, :display_name, :now);

-- name: insert_role!
INSERT INTO user_roles (id, user_id, role, agent_group_id, granted_by, granted_at)
VALUES (:id, :user_id, :role, :agent_group_id, :granted_by, :now) ON CONFLICT DO NOTHING;

-- name: insert_member!
INSERT INTO agent_group_members (user_id, agent_group_id, added_by, added_at)
VALUES (:user_id, :agent_group_id, :added_by, :now) ON CONFLICT DO NOTHING;

-- name: list_approvers
SELECT user_id FROM user_roles
WHERE role = 'owner' OR agent_group_id IS NULL OR agent_group_id = :agent_group_id
ORDER BY CASE WHEN agent_group_id IS NOT NULL THEN 0 WHEN role = 'admin' THEN 1 ELSE 2 END, granted_at, id;

-- name: find_owner^
SELECT user_id FROM user_roles WHERE role = 'owner' ORDER BY granted_at, id LIMIT 1;

-- name: find_owner_chat^
-- where an owner is told something: the direct chat found last; else the terminal's, which is an owner's own
SELECT messaging_group_id FROM (
  SELECT d.messaging_group_id, d.resolved_at FROM user_dms d JOIN user_roles r ON r.user_id = d.user_id AND r.role = 'owner'
  UNION ALL SELECT id, -1 FROM messaging_groups WHERE channel_type = 'terminal' AND platform_id = 'local')
ORDER BY resolved_at DESC LIMIT 1;

-- name: find_standing^
-- how a user stands to an agent group (NULL: to the whole home); the words of domain/people.py Standing
SELECT CASE
  WHEN EXISTS (SELECT 1 FROM user_roles WHERE user_id = :user_id AND role = 'owner') THEN 'owner'
  WHEN EXISTS (SELECT 1 FROM user_roles WHERE user_id = :user_id AND role = 'admin' AND agent_group_id IS NULL)
    THEN 'admin'
  WHEN EXISTS (SELECT 1 FROM user_roles WHERE user_id = :user_id AND role = 'admin' AND agent_group_id = :agent_group_id)
    THEN 'group-admin'
  WHEN EXISTS (SELECT 1 FROM agent_group_members WHERE user_id = :user_id AND agent_group_id = :agent_group_id)
    THEN 'member'
END AS standing;

-- name: get_name^
SELECT name FROM users WHERE id = :id;

-- name: find_dm^
SELECT messaging_group_id FROM user_dms WHERE user_id = :user_id AND channel_type = :channel_type;

-- name: note_dm!
INSERT INTO user_dms (user_id, channel_type, messaging_group_id, resolved_at)
VALUES (:user_id, :channel_type, :messaging_group_id, :now)
ON CONFLICT (user_id, channel_type) DO UPDATE
SET messaging_group_id = excluded.messaging_group_id, resolved_at = excluded.resolved_at;

-- name: list_dms
SELECT channel_type, messaging_group_id FROM user_dms WHERE user_id = :user_id ORDER BY resolved_at DESC, channel_type;

-- name: list_identities
SELECT channel_type, handle FROM identities WHERE user_id = :user_id ORDER BY created_at, channel_type, handle;

-- name: has_role^
SELECT 1 FROM user_roles WHERE user_id = :user_id LIMIT 1;

-- name: move_identity!
UPDATE identities SET user_id = :user_id WHERE channel_type = :channel_type AND handle = :handle;

-- name: take_memberships!
INSERT INTO agent_group_members (user_id, agent_group_id, added_by, added_at)
SELECT :user_id, agent_group_id, added_by, added_at FROM agent_group_members WHERE user_id = :other ON CONFLICT DO NOTHING;

-- name: set_timezone!
UPDATE users SET timezone = :timezone WHERE id = :id;

-- name: remove_identity!
DELETE FROM identities WHERE channel_type = :channel_type AND handle = :handle AND user_id = :user_id;

-- name: remove_dm!
-- a direct chat that was found by an identity goes with it
DELETE FROM user_dms WHERE user_id = :user_id AND channel_type = :channel_type;

-- name: remove_role!
DELETE FROM user_roles WHERE user_id = :user_id AND role = :role AND coalesce(agent_group_id, '') = coalesce(:agent_group_id, '');

-- name: count_owners^
SELECT count(*) AS owners FROM user_roles WHERE role = 'owner';

-- name: remove_member!
DELETE FROM agent_group_members WHERE user_id = :user_id AND agent_group_id = :agent_group_id;
