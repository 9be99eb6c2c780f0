-- Sandboxes: what a group demands of them, what was built for it, and what each runtime was seen to hold.
ALTER TABLE container_configs ADD COLUMN require_kernel TEXT NOT NULL DEFAULT '' CHECK (require_kernel IN ('', 'separate'));
ALTER TABLE container_configs ADD COLUMN packages_set TEXT NOT NULL DEFAULT '';

CREATE TABLE sandbox_proofs (
  id TEXT PRIMARY KEY,
  agent_group_id TEXT REFERENCES agent_groups (id) ON DELETE CASCADE,
  runtime TEXT NOT NULL,
  spec_hash TEXT NOT NULL,
  boot TEXT NOT NULL,
  passed INTEGER NOT NULL CHECK (passed IN (0, 1)),
  results TEXT NOT NULL CHECK (json_valid(results)),
  took_ms INTEGER NOT NULL,
  proved_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sandbox_proofs_by_group ON sandbox_proofs (agent_group_id, proved_at);
ALTER TABLE sessions ADD COLUMN proof_id TEXT REFERENCES sandbox_proofs (id) ON DELETE SET NULL;

CREATE TABLE package_builds (
  id TEXT PRIMARY KEY,
  agent_group_id TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
  session_id TEXT REFERENCES sessions (id) ON DELETE SET NULL,
  state TEXT NOT NULL CHECK (state IN ('queued', 'building', 'done', 'failed')),
  wanted TEXT NOT NULL CHECK (json_valid(wanted)),
  detail TEXT NOT NULL DEFAULT '',
  asked_by TEXT REFERENCES users (id) ON DELETE SET NULL,
  asked_at INTEGER NOT NULL,
  ended_at INTEGER,
  CHECK ((state IN ('done', 'failed')) = (ended_at IS NOT NULL))
) STRICT;
CREATE INDEX package_builds_open ON package_builds (asked_at) WHERE ended_at IS NULL;
CREATE INDEX package_builds_by_group ON package_builds (agent_group_id, asked_at);

CREATE TABLE left_out_mounts (
  agent_group_id TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
  source TEXT NOT NULL,
  reason TEXT NOT NULL,
  words TEXT NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (agent_group_id, source)
) STRICT;
