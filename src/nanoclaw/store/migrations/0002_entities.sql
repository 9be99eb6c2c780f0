-- Entities, agent to agent, questions to people. Tables with other rules than before are copied, made anew and filled
-- again; references are checked at the commit.
PRAGMA defer_foreign_keys = ON;

CREATE TABLE old_outbox AS SELECT * FROM outbox;
CREATE TABLE old_inbox AS SELECT * FROM inbox;
CREATE TABLE old_configs AS SELECT * FROM container_configs;
CREATE TABLE old_approvals AS SELECT * FROM approvals;
DROP TABLE outbox;
DROP TABLE approvals;
DROP TABLE inbox;
DROP TABLE container_configs;

ALTER TABLE agent_groups ADD COLUMN purging_at INTEGER;

CREATE TABLE thread_subscriptions (
  wiring_id TEXT NOT NULL REFERENCES messaging_group_agents (id) ON DELETE CASCADE,
  thread_id TEXT NOT NULL,
  subscribed_at INTEGER NOT NULL,
  PRIMARY KEY (wiring_id, thread_id)
) STRICT;
CREATE TABLE blocked_senders (
  messaging_group_id TEXT NOT NULL REFERENCES messaging_groups (id) ON DELETE CASCADE,
  handle TEXT NOT NULL,
  blocked_by TEXT REFERENCES users (id) ON DELETE SET NULL,
  blocked_at INTEGER NOT NULL,
  PRIMARY KEY (messaging_group_id, handle)
) STRICT;
CREATE TABLE pairing_codes (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  code_hash TEXT NOT NULL,
  tries_left INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at INTEGER
) STRICT;
CREATE INDEX pairing_codes_open ON pairing_codes (expires_at) WHERE used_at IS NULL;
CREATE INDEX wirings_by_agent ON messaging_group_agents (agent_group_id);
CREATE INDEX sessions_by_chat ON sessions (messaging_group_id);

CREATE TABLE container_configs (
  agent_group_id TEXT PRIMARY KEY REFERENCES agent_groups (id) ON DELETE CASCADE,
  provider TEXT NOT NULL DEFAULT 'claude',
  model TEXT,
  effort TEXT,
  runtime TEXT NOT NULL DEFAULT 'bubblewrap',
  image_tag TEXT,
  max_messages_per_prompt INTEGER NOT NULL DEFAULT 10,
  skills TEXT NOT NULL DEFAULT '"all"' CHECK (json_valid(skills)),
  mcp_servers TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(mcp_servers)),
  packages_apt TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(packages_apt)),
  packages_npm TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(packages_npm)),
  packages_pip TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(packages_pip)),
  additional_mounts TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(additional_mounts)),
  limits TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(limits)),
  instructions TEXT NOT NULL DEFAULT '',
  cli_scope TEXT NOT NULL DEFAULT 'group' CHECK (cli_scope IN ('disabled', 'group', 'global')),
  updated_at INTEGER NOT NULL
) STRICT;
CREATE TABLE inbox (
  id TEXT PRIMARY KEY,
  inbound_id TEXT REFERENCES inbound (id),
  session_id TEXT NOT NULL REFERENCES sessions (id),
  wiring_id TEXT REFERENCES messaging_group_agents (id) ON DELETE SET NULL,
  seq INTEGER NOT NULL CHECK (seq % 2 = 0),
  kind TEXT NOT NULL CHECK (kind IN ('chat', 'task', 'webhook', 'system')),
  trigger INTEGER NOT NULL CHECK (trigger IN (0, 1)),
  content TEXT CHECK (content IS NULL OR json_valid(content)),
  state TEXT NOT NULL CHECK (state IN ('queued', 'claimed', 'done', 'dead')),
  attempt INTEGER NOT NULL DEFAULT 0,
  failures INTEGER NOT NULL DEFAULT 0,
  run INTEGER,
  turn TEXT,
  routed_by TEXT NOT NULL DEFAULT '',
  admitted_by TEXT NOT NULL DEFAULT '',
  from_session_id TEXT REFERENCES sessions (id),
  from_inbox_id TEXT,
  from_turn TEXT,
  return_session_id TEXT REFERENCES sessions (id),
  return_inbox_id TEXT,
  hops INTEGER NOT NULL DEFAULT 0,
  files TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(files)),
  outcome TEXT CHECK (outcome IN ('replied', 'silent', 'refused', 'failed')),
  queued_at INTEGER NOT NULL,
  claimed_at INTEGER,
  ended_at INTEGER,
  UNIQUE (session_id, seq),
  CHECK ((state IN ('done', 'dead')) = (outcome IS NOT NULL)),
  CHECK (state <> 'claimed' OR run IS NOT NULL)
) STRICT;
CREATE INDEX inbox_queued ON inbox (session_id, seq) WHERE state = 'queued';
CREATE INDEX inbox_due ON inbox (session_id) WHERE state = 'queued' AND trigger = 1;
CREATE INDEX inbox_claimed ON inbox (session_id, seq) WHERE state = 'claimed';
CREATE INDEX inbox_by_inbound ON inbox (inbound_id);
CREATE INDEX inbox_from_agents ON inbox (queued_at) WHERE from_session_id IS NOT NULL;
CREATE INDEX inbox_by_cause ON inbox (from_inbox_id) WHERE from_inbox_id IS NOT NULL;
CREATE INDEX inbox_by_sender ON inbox (from_session_id, from_turn) WHERE from_session_id IS NOT NULL;
CREATE INDEX inbox_by_asker ON inbox (return_session_id) WHERE return_session_id IS NOT NULL;
CREATE INDEX inbox_by_turn ON inbox (session_id, turn) WHERE turn IS NOT NULL;
CREATE TABLE approvals (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('unknown_sender', 'unknown_chat', 'agent_request', 'egress', 'question')),
  state TEXT NOT NULL CHECK (state IN ('open', 'approved', 'denied', 'expired')),
  agent_group_id TEXT REFERENCES agent_groups (id) ON DELETE CASCADE,
  session_id TEXT REFERENCES sessions (id) ON DELETE CASCADE,
  messaging_group_id TEXT REFERENCES messaging_groups (id),
  asked_user_id TEXT REFERENCES users (id) ON DELETE SET NULL,
  code TEXT NOT NULL,
  subject TEXT NOT NULL,
  title TEXT NOT NULL,
  text TEXT NOT NULL DEFAULT '',
  channel TEXT NOT NULL DEFAULT '',
  options TEXT NOT NULL CHECK (json_valid(options)),
  payload TEXT NOT NULL CHECK (json_valid(payload)),
  answer TEXT CHECK (answer IS NULL OR json_valid(answer)),
  answered_by TEXT REFERENCES users (id) ON DELETE SET NULL,
  answer_message TEXT,
  waits_run INTEGER,
  waits_seq INTEGER,
  waits_until INTEGER,
  text_from TEXT REFERENCES users (id) ON DELETE SET NULL,
  text_in TEXT REFERENCES messaging_groups (id) ON DELETE SET NULL,
  text_value TEXT,
  text_until INTEGER,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  ended_at INTEGER,
  CHECK ((state = 'open') = (ended_at IS NULL))
) STRICT;
CREATE UNIQUE INDEX approvals_code_once ON approvals (code) WHERE state = 'open';
CREATE INDEX approvals_due ON approvals (expires_at) WHERE state = 'open';
CREATE INDEX approvals_waited_for ON approvals (waits_until) WHERE waits_until IS NOT NULL;
CREATE INDEX approvals_by_words ON approvals (text_from, text_in) WHERE text_from IS NOT NULL;
CREATE INDEX approvals_by_message ON approvals (answer_message) WHERE answer_message IS NOT NULL;
CREATE INDEX approvals_by_session ON approvals (session_id) WHERE state = 'open';
CREATE UNIQUE INDEX approvals_open_once ON approvals (kind, subject) WHERE state = 'open';
CREATE TABLE outbox (
  id TEXT PRIMARY KEY,
  session_id TEXT REFERENCES sessions (id),
  run INTEGER NOT NULL,
  seq INTEGER,
  turn TEXT,
  reply_to TEXT REFERENCES inbox (id),
  messaging_group_id TEXT NOT NULL REFERENCES messaging_groups (id),
  thread_id TEXT,
  text TEXT NOT NULL,
  notice INTEGER NOT NULL DEFAULT 0 CHECK (notice IN (0, 1)),
  card TEXT CHECK (card IS NULL OR json_valid(card)),
  approval_id TEXT REFERENCES approvals (id) ON DELETE SET NULL,
  user_id TEXT REFERENCES users (id) ON DELETE SET NULL,
  edits TEXT REFERENCES outbox (id),
  state TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'sent', 'failed', 'unknown')),
  attempt INTEGER NOT NULL DEFAULT 0,
  not_before INTEGER NOT NULL DEFAULT 0,
  maybe_duplicate INTEGER NOT NULL DEFAULT 0 CHECK (maybe_duplicate IN (0, 1)),
  platform_id TEXT,
  sent_order INTEGER UNIQUE,
  error TEXT,
  created_at INTEGER NOT NULL,
  ended_at INTEGER,
  UNIQUE (session_id, run, seq),
  CHECK (session_id IS NOT NULL OR seq IS NULL),
  CHECK ((state = 'sent') = (sent_order IS NOT NULL))
) STRICT;
CREATE INDEX outbox_waiting ON outbox (session_id, id) WHERE state IN ('pending', 'sending', 'unknown');
CREATE INDEX outbox_by_turn ON outbox (session_id, turn) WHERE turn IS NOT NULL;
CREATE INDEX outbox_by_chat ON outbox (messaging_group_id, sent_order);
CREATE INDEX outbox_by_reply ON outbox (reply_to);
CREATE INDEX outbox_edits ON outbox (edits) WHERE edits IS NOT NULL;
CREATE INDEX outbox_by_approval ON outbox (approval_id) WHERE approval_id IS NOT NULL;

INSERT INTO inbox (id, inbound_id, session_id, wiring_id, seq, kind, trigger, content, state, attempt, failures, run, turn, outcome, queued_at, claimed_at, ended_at)
SELECT id, inbound_id, session_id, wiring_id, seq, kind, trigger, content, state, attempt, failures, run, turn, outcome, queued_at, claimed_at, ended_at FROM old_inbox;
DROP TABLE old_inbox;
INSERT INTO approvals (id, kind, state, agent_group_id, session_id, subject, payload, answer, answered_by, created_at, expires_at, ended_at, code, title, options)
SELECT id, kind, state, agent_group_id, session_id, subject, payload, answer, answered_by, created_at, expires_at, ended_at, id, subject, '[]' FROM old_approvals;
DROP TABLE old_approvals;
INSERT INTO outbox (id, session_id, run, seq, turn, reply_to, messaging_group_id, thread_id, text, notice, state, attempt, not_before, maybe_duplicate, platform_id, sent_order, error, created_at, ended_at)
SELECT id, session_id, run, seq, turn, reply_to, messaging_group_id, thread_id, text, notice, state, attempt, not_before, maybe_duplicate, platform_id, sent_order, error, created_at, ended_at FROM old_outbox;
DROP TABLE old_outbox;
INSERT INTO container_configs (agent_group_id, provider, model, effort, runtime, image_tag, max_messages_per_prompt, skills, mcp_servers, packages_apt, packages_npm, packages_pip, additional_mounts, limits, cli_scope, updated_at)
SELECT agent_group_id, provider, model, effort, runtime, image_tag, max_messages_per_prompt, skills, mcp_servers, packages_apt, packages_npm, packages_pip, additional_mounts, limits, cli_scope, updated_at FROM old_configs;
DROP TABLE old_configs;
