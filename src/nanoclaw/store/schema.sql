-- The central store as it is now (data/nanoclaw.db). Equal to all migrations applied, by test.
-- Times are epoch milliseconds, ids ULIDs. States are declared in domain/ and mirrored by the CHECKs, by test.

-- people ---------------------------------------------------------------------------------------------------
CREATE TABLE users (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  timezone TEXT,
  created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE identities (
  channel_type TEXT NOT NULL,
  handle TEXT NOT NULL,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  display_name TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (channel_type, handle)
) STRICT;
CREATE INDEX identities_by_user ON identities (user_id);
CREATE TABLE user_roles (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('owner', 'admin')),
  agent_group_id TEXT REFERENCES agent_groups (id) ON DELETE CASCADE,
  granted_by TEXT REFERENCES users (id) ON DELETE SET NULL,
  granted_at INTEGER NOT NULL,
  CHECK (role <> 'owner' OR agent_group_id IS NULL)
) STRICT;
-- NULL is distinct in a UNIQUE constraint: '' stands for "global", so a duplicate global row is impossible
CREATE UNIQUE INDEX user_roles_once ON user_roles (user_id, role, coalesce(agent_group_id, ''));
CREATE TABLE agent_group_members (
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  agent_group_id TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
  added_by TEXT REFERENCES users (id) ON DELETE SET NULL,
  added_at INTEGER NOT NULL,
  PRIMARY KEY (user_id, agent_group_id)
) STRICT;
CREATE TABLE user_dms (
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  channel_type TEXT NOT NULL,
  messaging_group_id TEXT NOT NULL REFERENCES messaging_groups (id) ON DELETE CASCADE,
  resolved_at INTEGER NOT NULL,
  PRIMARY KEY (user_id, channel_type)
) STRICT;

-- whoever sends the code in a direct chat is that user there
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

-- agents ---------------------------------------------------------------------------------------------------
CREATE TABLE agent_groups (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  folder TEXT NOT NULL UNIQUE,
  box_uid INTEGER NOT NULL UNIQUE,  -- n of "uid base + 1 + n"
  created_at INTEGER NOT NULL,
  archived_at INTEGER,
  purging_at INTEGER
) STRICT;
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
  instructions TEXT NOT NULL DEFAULT '',         -- who it is, composed into its CLAUDE.md, which it cannot change
  cli_scope TEXT NOT NULL DEFAULT 'group' CHECK (cli_scope IN ('disabled', 'group', 'global')),
  updated_at INTEGER NOT NULL,
  require_kernel TEXT NOT NULL DEFAULT '' CHECK (require_kernel IN ('', 'separate')),
  packages_set TEXT NOT NULL DEFAULT ''          -- what was built of its packages and is in use; '': nothing
) STRICT;

-- what a runtime was seen to hold, for a group's spec or (without a group) for its limits; canaries run in a box
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

-- packages a person has approved, being built for a group
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

-- folders of the machine that a group was given and its boxes do not get, as its last start found
CREATE TABLE left_out_mounts (
  agent_group_id TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
  source TEXT NOT NULL,
  reason TEXT NOT NULL,
  words TEXT NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (agent_group_id, source)
) STRICT;

-- chats ----------------------------------------------------------------------------------------------------
CREATE TABLE messaging_groups (
  id TEXT PRIMARY KEY,
  channel_type TEXT NOT NULL,
  account TEXT NOT NULL DEFAULT '',
  platform_id TEXT NOT NULL,
  name TEXT,
  is_group INTEGER NOT NULL DEFAULT 0 CHECK (is_group IN (0, 1)),
  unknown_sender_policy TEXT NOT NULL DEFAULT 'strict'
    CHECK (unknown_sender_policy IN ('strict', 'request_approval', 'public')),
  denied_at INTEGER,
  created_at INTEGER NOT NULL,
  UNIQUE (channel_type, account, platform_id)
) STRICT;
CREATE TABLE messaging_group_agents (
  id TEXT PRIMARY KEY,
  messaging_group_id TEXT NOT NULL REFERENCES messaging_groups (id) ON DELETE CASCADE,
  agent_group_id TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
  engage_mode TEXT NOT NULL DEFAULT 'mention'
    CHECK (engage_mode IN ('pattern', 'mention', 'mention-sticky')),
  engage_pattern TEXT,
  session_mode TEXT NOT NULL DEFAULT 'shared' CHECK (session_mode IN ('shared', 'per-thread', 'agent-shared')),
  sender_scope TEXT NOT NULL DEFAULT 'all' CHECK (sender_scope IN ('all', 'known')),
  ignored_message_policy TEXT NOT NULL DEFAULT 'drop' CHECK (ignored_message_policy IN ('drop', 'accumulate')),
  priority INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  UNIQUE (messaging_group_id, agent_group_id),
  CHECK (engage_mode <> 'pattern' OR engage_pattern IS NOT NULL)
) STRICT;
-- a mention in a thread makes `mention-sticky` listen to the rest of it
CREATE TABLE thread_subscriptions (
  wiring_id TEXT NOT NULL REFERENCES messaging_group_agents (id) ON DELETE CASCADE,
  thread_id TEXT NOT NULL,
  subscribed_at INTEGER NOT NULL,
  PRIMARY KEY (wiring_id, thread_id)
) STRICT;
-- a denial for good: nothing of them is asked about again
CREATE TABLE blocked_senders (
  messaging_group_id TEXT NOT NULL REFERENCES messaging_groups (id) ON DELETE CASCADE,
  handle TEXT NOT NULL,
  blocked_by TEXT REFERENCES users (id) ON DELETE SET NULL,
  blocked_at INTEGER NOT NULL,
  PRIMARY KEY (messaging_group_id, handle)
) STRICT;
CREATE TABLE agent_destinations (
  agent_group_id TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
  local_name TEXT NOT NULL,
  target_type TEXT NOT NULL CHECK (target_type IN ('channel', 'agent')),
  target_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (agent_group_id, local_name)
) STRICT;
CREATE INDEX wirings_by_agent ON messaging_group_agents (agent_group_id);
CREATE INDEX agent_destinations_by_target ON agent_destinations (target_type, target_id);

-- sessions and their one live run --------------------------------------------------------------------------
CREATE TABLE sessions (
  id TEXT PRIMARY KEY,
  agent_group_id TEXT NOT NULL REFERENCES agent_groups (id),
  messaging_group_id TEXT REFERENCES messaging_groups (id),
  thread_id TEXT,
  mode TEXT NOT NULL CHECK (mode IN ('shared', 'per-thread', 'agent-shared')),
  fence INTEGER NOT NULL DEFAULT 0,  -- number of the latest run; raised at every start, never lowered
  run_state TEXT NOT NULL DEFAULT 'over' CHECK (run_state IN ('starting', 'running', 'stopping', 'over')),
  run_changed_at INTEGER NOT NULL DEFAULT 0,
  collected_message INTEGER NOT NULL DEFAULT 0,  -- last outbound.db message seq of this run that was applied
  collected_ack INTEGER NOT NULL DEFAULT 0,      -- last ack rowid of this run that was applied
  last_seq INTEGER NOT NULL DEFAULT 0,           -- highest message number the agent has seen or used
  continuation TEXT,                             -- the provider's own session id
  not_before INTEGER NOT NULL DEFAULT 0,         -- back-off of the whole session
  last_active_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  closed_at INTEGER,
  proof_id TEXT REFERENCES sandbox_proofs (id) ON DELETE SET NULL  -- what its latest box was seen to hold
) STRICT;
CREATE UNIQUE INDEX sessions_once ON sessions
  (agent_group_id, mode, coalesce(messaging_group_id, ''), coalesce(thread_id, '')) WHERE closed_at IS NULL;
CREATE INDEX sessions_by_chat ON sessions (messaging_group_id);
CREATE INDEX sessions_live ON sessions (run_state) WHERE run_state <> 'over';

-- the data path --------------------------------------------------------------------------------------------
CREATE TABLE inbound (
  id TEXT PRIMARY KEY,
  channel_type TEXT NOT NULL,
  account TEXT NOT NULL DEFAULT '',
  platform_id TEXT NOT NULL,
  messaging_group_id TEXT NOT NULL REFERENCES messaging_groups (id),
  thread_id TEXT,
  sender TEXT NOT NULL,
  sender_name TEXT NOT NULL,
  user_id TEXT REFERENCES users (id) ON DELETE SET NULL,
  text TEXT NOT NULL,
  reply_to TEXT,
  is_group INTEGER NOT NULL CHECK (is_group IN (0, 1)),
  is_mention INTEGER NOT NULL CHECK (is_mention IN (0, 1)),
  sent_at INTEGER NOT NULL,
  accepted_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX inbound_once ON inbound (channel_type, account, messaging_group_id, platform_id);
CREATE TABLE inbox (
  id TEXT PRIMARY KEY,
  inbound_id TEXT REFERENCES inbound (id),       -- what a person wrote that began it; NULL: a task, a note of the host
  session_id TEXT NOT NULL REFERENCES sessions (id),
  wiring_id TEXT REFERENCES messaging_group_agents (id) ON DELETE SET NULL,
  seq INTEGER NOT NULL CHECK (seq % 2 = 0),      -- the message number the agent sees
  kind TEXT NOT NULL CHECK (kind IN ('chat', 'task', 'webhook', 'system')),
  trigger INTEGER NOT NULL CHECK (trigger IN (0, 1)),
  content TEXT CHECK (content IS NULL OR json_valid(content)),  -- NULL: built from the inbound row
  state TEXT NOT NULL CHECK (state IN ('queued', 'claimed', 'done', 'dead')),
  attempt INTEGER NOT NULL DEFAULT 0,            -- which try the present or last claim is
  failures INTEGER NOT NULL DEFAULT 0,           -- runs that ended while this was their oldest trigger row
  run INTEGER,
  turn TEXT,
  routed_by TEXT NOT NULL DEFAULT '',            -- the rule that chose this agent, for `trace`
  admitted_by TEXT NOT NULL DEFAULT '',          -- the rule that let it in
  from_session_id TEXT REFERENCES sessions (id), -- the agent that wrote it; NULL: a person, a task, the host
  from_inbox_id TEXT,                            -- the row that agent worked on when it wrote it
  from_turn TEXT,
  return_session_id TEXT REFERENCES sessions (id),  -- where a plain answer goes instead of the chat
  return_inbox_id TEXT,                          -- the row of that session it answers
  hops INTEGER NOT NULL DEFAULT 0,               -- how many agents the words passed through
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
CREATE TABLE outbox (
  id TEXT PRIMARY KEY,
  session_id TEXT REFERENCES sessions (id),      -- NULL: the host's own words, to nobody's conversation
  run INTEGER NOT NULL,
  seq INTEGER,                                   -- outbound.db seq; NULL: the host's own words
  turn TEXT,
  reply_to TEXT REFERENCES inbox (id),
  messaging_group_id TEXT NOT NULL REFERENCES messaging_groups (id),
  thread_id TEXT,
  text TEXT NOT NULL,
  notice INTEGER NOT NULL DEFAULT 0 CHECK (notice IN (0, 1)),
  card TEXT CHECK (card IS NULL OR json_valid(card)),  -- a question with options (domain/card.py)
  approval_id TEXT REFERENCES approvals (id) ON DELETE SET NULL,
  user_id TEXT REFERENCES users (id) ON DELETE SET NULL,  -- whom a card is for
  edits TEXT REFERENCES outbox (id),             -- the delivery whose message this one replaces
  state TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'sent', 'failed', 'unknown')),
  attempt INTEGER NOT NULL DEFAULT 0,
  not_before INTEGER NOT NULL DEFAULT 0,
  maybe_duplicate INTEGER NOT NULL DEFAULT 0 CHECK (maybe_duplicate IN (0, 1)),
  platform_id TEXT,
  sent_order INTEGER UNIQUE,                     -- order in which deliveries became sent
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
CREATE TABLE cursors (
  channel_type TEXT NOT NULL,
  account TEXT NOT NULL DEFAULT '',
  cursor TEXT NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (channel_type, account)
) STRICT;
CREATE TABLE refusals (
  id TEXT PRIMARY KEY,
  channel_type TEXT NOT NULL,
  chat TEXT NOT NULL,
  handle TEXT NOT NULL,
  reason TEXT NOT NULL,
  count INTEGER NOT NULL DEFAULT 1,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  UNIQUE (channel_type, chat, handle, reason)
) STRICT;

-- asking people --------------------------------------------------------------------------------------------
CREATE TABLE approvals (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('unknown_sender', 'unknown_chat', 'agent_request', 'egress', 'question')),
  state TEXT NOT NULL CHECK (state IN ('open', 'approved', 'denied', 'expired')),
  agent_group_id TEXT REFERENCES agent_groups (id) ON DELETE CASCADE,  -- whose admins may answer; NULL: global ones
  session_id TEXT REFERENCES sessions (id) ON DELETE CASCADE,  -- whose agent asked; NULL: the host
  messaging_group_id TEXT REFERENCES messaging_groups (id),  -- the chat it is about
  asked_user_id TEXT REFERENCES users (id) ON DELETE SET NULL,  -- a question: the one who may answer
  code TEXT NOT NULL,                            -- names it in a numbered answer; unique among the open ones
  subject TEXT NOT NULL,                         -- what is asked about; one open approval per kind and subject
  title TEXT NOT NULL,
  text TEXT NOT NULL DEFAULT '',                 -- what the card says below its title
  channel TEXT NOT NULL DEFAULT '',              -- where the question came from: its cards go there first
  options TEXT NOT NULL CHECK (json_valid(options)),
  payload TEXT NOT NULL CHECK (json_valid(payload)),  -- what an answer needs; a held message leaves it at the end
  answer TEXT CHECK (answer IS NULL OR json_valid(answer)),
  answered_by TEXT REFERENCES users (id) ON DELETE SET NULL,
  answer_message TEXT,                           -- the platform's id of a typed answer: it may hand it in again
  waits_run INTEGER,                             -- the tool that waits for the answer; NULL: nobody, or it was told
  waits_seq INTEGER,
  waits_until INTEGER,
  text_from TEXT REFERENCES users (id) ON DELETE SET NULL,  -- whose next message in a chat is the words of an option
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

-- time -----------------------------------------------------------------------------------------------------
CREATE TABLE tasks (
  id TEXT PRIMARY KEY,
  agent_group_id TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
  session_id TEXT REFERENCES sessions (id),
  state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'ended')),
  prompt TEXT NOT NULL,
  script TEXT,
  schedule TEXT NOT NULL CHECK (json_valid(schedule)),
  timezone TEXT NOT NULL,
  context TEXT NOT NULL DEFAULT 'group' CHECK (context IN ('group', 'isolated')),
  missed TEXT NOT NULL DEFAULT 'latest' CHECK (missed IN ('skip', 'latest', 'all', 'ask')),
  next_at INTEGER,
  created_by TEXT REFERENCES users (id) ON DELETE SET NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX tasks_due ON tasks (next_at) WHERE state = 'active';
CREATE TABLE task_runs (
  id TEXT PRIMARY KEY,
  task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  due_at INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('due', 'running', 'done', 'skipped', 'failed')),
  inbox_id TEXT REFERENCES inbox (id),
  detail TEXT,
  started_at INTEGER,
  ended_at INTEGER,
  UNIQUE (task_id, due_at)
) STRICT;

-- what was decided, hash-chained: hash = sha256(previous hash, then the row's fields) ------------------------
CREATE TABLE audit (
  n INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  event TEXT NOT NULL,
  actor TEXT NOT NULL,
  subject TEXT NOT NULL,
  verdict TEXT NOT NULL,
  reason TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE schema_version (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  applied_at INTEGER NOT NULL
) STRICT;
