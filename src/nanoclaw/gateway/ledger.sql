-- name: create_schema#
-- An empty file becomes a ledger of version 1; `upgrade_to_2` follows.
BEGIN IMMEDIATE;
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  event TEXT NOT NULL CHECK (event IN ('refused', 'allowed', 'finished', 'changed')),
  session TEXT NOT NULL,
  fence INTEGER NOT NULL,
  agent_group TEXT NOT NULL,
  charge TEXT NOT NULL,
  method TEXT NOT NULL,
  host TEXT NOT NULL,
  path TEXT NOT NULL CHECK (instr(path, '?') = 0),
  rule TEXT NOT NULL,
  reason TEXT NOT NULL,
  call INTEGER NOT NULL,
  status INTEGER NOT NULL,
  sent_bytes INTEGER NOT NULL,
  received_bytes INTEGER NOT NULL,
  took_ms INTEGER NOT NULL,
  hash TEXT NOT NULL CHECK (length(hash) = 64)
) STRICT;
CREATE INDEX audit_by_session ON audit (session, seq);
CREATE TABLE usage (
  call INTEGER PRIMARY KEY REFERENCES audit (seq),
  at INTEGER NOT NULL,
  session TEXT NOT NULL,
  fence INTEGER NOT NULL,
  agent_group TEXT NOT NULL,
  charge TEXT NOT NULL,
  host TEXT NOT NULL,
  model TEXT NOT NULL,
  input_tokens INTEGER NOT NULL CHECK (input_tokens >= 0),
  output_tokens INTEGER NOT NULL CHECK (output_tokens >= 0),
  cache_read_tokens INTEGER NOT NULL CHECK (cache_read_tokens >= 0),
  cache_write_tokens INTEGER NOT NULL CHECK (cache_write_tokens >= 0)
) STRICT;
CREATE INDEX usage_by_charge ON usage (charge, at);
PRAGMA user_version = 1;
COMMIT;

-- name: upgrade_to_2#
-- Money: what calls cost, in millionths of a US dollar; budgets, reservations, the operator's prices; one-shot grants.
-- The audit itself is not touched, so its chain goes on.
BEGIN IMMEDIATE;
ALTER TABLE usage ADD COLUMN folder TEXT NOT NULL DEFAULT '';
ALTER TABLE usage ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE usage ADD COLUMN cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0 CHECK (cache_write_1h_tokens >= 0);
ALTER TABLE usage ADD COLUMN cost_micros INTEGER NOT NULL DEFAULT 0 CHECK (cost_micros >= 0);
ALTER TABLE usage ADD COLUMN estimated INTEGER NOT NULL DEFAULT 1 CHECK (estimated IN (0, 1));
DROP INDEX usage_by_charge;
CREATE INDEX audit_by_group ON audit (agent_group, seq);
CREATE INDEX audit_refused ON audit (seq) WHERE event = 'refused';
-- Sums of `usage` by quarter of an hour since 1970 (every zone's midnight is the start of one): what is read of it.
CREATE TABLE spending (
  quarter INTEGER NOT NULL,
  agent_group TEXT NOT NULL,
  folder TEXT NOT NULL,
  charge TEXT NOT NULL,
  host TEXT NOT NULL,
  model TEXT NOT NULL,
  calls INTEGER NOT NULL,
  estimated INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  cost_micros INTEGER NOT NULL,
  PRIMARY KEY (quarter, agent_group, folder, charge, host, model)
) STRICT, WITHOUT ROWID;
INSERT INTO spending
SELECT at / 900000, agent_group, folder, charge, host, model, count(*), count(*), sum(input_tokens), sum(output_tokens),
       sum(cache_read_tokens), sum(cache_write_tokens), 0
FROM usage WHERE model <> '' GROUP BY 1, 2, 3, 4, 5, 6;
-- What calls under way may cost. A row that is still here at a start is of a call that a crash cut off.
CREATE TABLE reservations (
  call INTEGER PRIMARY KEY REFERENCES audit (seq),
  at INTEGER NOT NULL,
  session TEXT NOT NULL,
  fence INTEGER NOT NULL,
  agent_group TEXT NOT NULL,
  folder TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  charge TEXT NOT NULL,
  host TEXT NOT NULL,
  model TEXT NOT NULL,
  input_tokens INTEGER NOT NULL CHECK (input_tokens >= 0),
  output_tokens INTEGER NOT NULL CHECK (output_tokens >= 0),
  cost_micros INTEGER NOT NULL CHECK (cost_micros >= 0)
) STRICT;
-- `name` is an agent group's folder, or who is charged; '' for all together. NULL is no limit.
CREATE TABLE budgets (
  scope TEXT NOT NULL CHECK (scope IN ('group', 'person', 'all')),
  name TEXT NOT NULL CHECK ((scope = 'all') = (name = '')),
  period TEXT NOT NULL CHECK (period IN ('day', 'month')),
  micros INTEGER CHECK (micros >= 0),
  tokens INTEGER CHECK (tokens >= 0),
  set_at INTEGER NOT NULL,
  CHECK (micros IS NOT NULL OR tokens IS NOT NULL),
  PRIMARY KEY (scope, name, period)
) STRICT, WITHOUT ROWID;
-- The operator's own prices, in millionths of a US dollar for a million tokens; they go before the table we ship.
CREATE TABLE prices (
  model TEXT PRIMARY KEY,
  input INTEGER NOT NULL CHECK (input >= 0),
  output INTEGER NOT NULL CHECK (output >= 0),
  cache_read INTEGER NOT NULL CHECK (cache_read >= 0),
  cache_write INTEGER NOT NULL CHECK (cache_write >= 0),
  cache_write_1h INTEGER NOT NULL CHECK (cache_write_1h >= 0),
  set_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- A call that a person said yes to may go once.
CREATE TABLE grants (
  approval TEXT PRIMARY KEY,
  digest TEXT NOT NULL,
  agent_group TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_unused ON grants (digest, agent_group) WHERE used_at IS NULL;
PRAGMA user_version = 2;
COMMIT;

-- name: get_version$
-- Which schema a file has; 0 is an empty one.
PRAGMA user_version;

-- name: find_head^
-- The last row of the chain, which the next one hangs on.
SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1;

-- name: add_audit!
-- One more row at the end of the chain.
INSERT INTO audit (seq, at, event, session, fence, agent_group, charge, method, host, path, rule, reason, call, status,
                   sent_bytes, received_bytes, took_ms, hash)
VALUES (:seq, :at, :event, :session, :fence, :agent_group, :charge, :method, :host, :path, :rule, :reason, :call, :status,
        :sent_bytes, :received_bytes, :took_ms, :hash);

-- name: add_reservation!
-- What the allowed call of the same commit may cost.
INSERT INTO reservations (call, at, session, fence, agent_group, folder, attempt, charge, host, model, input_tokens,
                          output_tokens, cost_micros)
VALUES (:seq, :at, :session, :fence, :agent_group, :folder, :attempt, :charge, :host, :model, :input_tokens,
        :output_tokens, :cost_micros);

-- name: remove_reservation!
-- The call has ended: what it used is known.
DELETE FROM reservations WHERE call = :call;

-- name: add_usage!
-- What an allowed call used, once it ended.
INSERT INTO usage (call, at, session, fence, agent_group, folder, attempt, charge, host, model, input_tokens,
                   output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, cost_micros, estimated)
VALUES (:call, :at, :session, :fence, :agent_group, :folder, :attempt, :charge, :host, :model, :input_tokens,
        :output_tokens, :cache_read_tokens, :cache_write_tokens, :cache_write_1h_tokens, :cost_micros, :estimated);

-- name: add_spending!
-- The same, added to the sums.
INSERT INTO spending (quarter, agent_group, folder, charge, host, model, calls, estimated, input_tokens, output_tokens,
                      cache_read_tokens, cache_write_tokens, cost_micros)
VALUES (:at / 900000, :agent_group, :folder, :charge, :host, :model, 1, :estimated, :input_tokens, :output_tokens,
        :cache_read_tokens, :cache_write_tokens, :cost_micros)
ON CONFLICT DO UPDATE SET
  calls = calls + 1,
  estimated = estimated + excluded.estimated,
  input_tokens = input_tokens + excluded.input_tokens,
  output_tokens = output_tokens + excluded.output_tokens,
  cache_read_tokens = cache_read_tokens + excluded.cache_read_tokens,
  cache_write_tokens = cache_write_tokens + excluded.cache_write_tokens,
  cost_micros = cost_micros + excluded.cost_micros;

-- name: count_cut_off#
-- Reserved and never ended: a crash cut these calls off, and all that was reserved counts as used.
BEGIN IMMEDIATE;
INSERT INTO usage (call, at, session, fence, agent_group, folder, attempt, charge, host, model, input_tokens,
                   output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, cost_micros, estimated)
SELECT call, at, session, fence, agent_group, folder, attempt, charge, host, model, input_tokens, output_tokens, 0, 0, 0,
       cost_micros, 1
FROM reservations;
INSERT INTO spending (quarter, agent_group, folder, charge, host, model, calls, estimated, input_tokens, output_tokens,
                      cache_read_tokens, cache_write_tokens, cost_micros)
SELECT at / 900000, agent_group, folder, charge, host, model, count(*), count(*), sum(input_tokens), sum(output_tokens),
       0, 0, sum(cost_micros)
FROM reservations WHERE true GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT DO UPDATE SET
  calls = calls + excluded.calls,
  estimated = estimated + excluded.estimated,
  input_tokens = input_tokens + excluded.input_tokens,
  output_tokens = output_tokens + excluded.output_tokens,
  cost_micros = cost_micros + excluded.cost_micros;
DELETE FROM reservations;
COMMIT;

-- name: add_grant!
-- A call may go once until `expires_at`; a second yes to the same question changes nothing.
INSERT OR IGNORE INTO grants (approval, digest, agent_group, expires_at)
VALUES (:approval, :digest, :agent_group, :expires_at);

-- name: take_grant!
-- The call goes now: the grant that expires first is used up.
UPDATE grants SET used_at = :now
WHERE used_at IS NULL AND approval = (
  SELECT approval FROM grants
  WHERE digest = :digest AND agent_group = :agent_group AND used_at IS NULL AND expires_at > :now
  ORDER BY expires_at, approval LIMIT 1
);

-- name: set_budget!
-- Limits for one period; each given one replaces the one before.
INSERT INTO budgets (scope, name, period, micros, tokens, set_at)
VALUES (:scope, :name, :period, :micros, :tokens, :at)
ON CONFLICT DO UPDATE SET micros = coalesce(excluded.micros, micros), tokens = coalesce(excluded.tokens, tokens),
  set_at = excluded.set_at;

-- name: remove_budget!
-- No limit for this period any more.
DELETE FROM budgets WHERE scope = :scope AND name = :name AND period = :period;

-- name: list_budgets
-- Every limit.
SELECT scope, name, period, micros, tokens FROM budgets ORDER BY scope, name, period;

-- name: set_price!
-- The operator's own price of a model.
INSERT INTO prices (model, input, output, cache_read, cache_write, cache_write_1h, set_at)
VALUES (:model, :input, :output, :cache_read, :cache_write, :cache_write_1h, :at)
ON CONFLICT DO UPDATE SET input = excluded.input, output = excluded.output, cache_read = excluded.cache_read,
  cache_write = excluded.cache_write, cache_write_1h = excluded.cache_write_1h, set_at = excluded.set_at;

-- name: remove_price!
-- The price we ship holds again.
DELETE FROM prices WHERE model = :model;

-- name: list_prices
-- Every price of the operator's own.
SELECT model, input, output, cache_read, cache_write, cache_write_1h FROM prices ORDER BY model;

-- name: list_newest
-- The newest rows, newest first.
SELECT seq, at, event, session, fence, agent_group, charge, method, host, path, rule, reason, call, status, sent_bytes,
       received_bytes, took_ms, hash
FROM audit ORDER BY seq DESC LIMIT :limit;

-- name: list_newest_refused
-- The newest refusals, newest first.
SELECT seq, at, event, session, fence, agent_group, charge, method, host, path, rule, reason, call, status, sent_bytes,
       received_bytes, took_ms, hash
FROM audit WHERE event = 'refused' ORDER BY seq DESC LIMIT :limit;

-- name: list_newest_of_session
-- The newest rows of one session, newest first.
SELECT seq, at, event, session, fence, agent_group, charge, method, host, path, rule, reason, call, status, sent_bytes,
       received_bytes, took_ms, hash
FROM audit WHERE session = :session AND (:event = '' OR event = :event) ORDER BY seq DESC LIMIT :limit;

-- name: list_newest_of_group
-- The newest rows of one agent group, newest first.
SELECT seq, at, event, session, fence, agent_group, charge, method, host, path, rule, reason, call, status, sent_bytes,
       received_bytes, took_ms, hash
FROM audit WHERE agent_group = :agent_group AND (:event = '' OR event = :event) ORDER BY seq DESC LIMIT :limit;

-- name: list_chain
-- Rows in the order of the chain, some at a time.
SELECT seq, at, event, session, fence, agent_group, charge, method, host, path, rule, reason, call, status, sent_bytes,
       received_bytes, took_ms, hash
FROM audit WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: list_usage
-- What calls used, in their order, some at a time.
SELECT call, charge, cost_micros, estimated, attempt, model, input_tokens, output_tokens, cache_read_tokens,
       cache_write_tokens, cache_write_1h_tokens
FROM usage WHERE call > :after ORDER BY call LIMIT :limit;

-- name: sum_spending
-- What was spent since a quarter of an hour, by whose it was: what budgets are loaded from.
SELECT folder, charge, sum(cost_micros),
       sum(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens)
FROM spending WHERE quarter >= :since GROUP BY folder, charge;

-- name: list_spending_by_group
-- What was spent since a quarter of an hour, by agent group.
SELECT agent_group, folder, sum(calls), sum(estimated), sum(input_tokens), sum(output_tokens),
       sum(cache_read_tokens), sum(cache_write_tokens), sum(cost_micros)
FROM spending WHERE quarter >= :since GROUP BY 1, 2 ORDER BY sum(cost_micros) DESC, 1;

-- name: list_spending_by_charge
-- The same by who pays: a person, a sender nobody knows, or a task.
SELECT charge, '', sum(calls), sum(estimated), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
       sum(cache_write_tokens), sum(cost_micros)
FROM spending WHERE quarter >= :since GROUP BY 1 ORDER BY sum(cost_micros) DESC, 1;

-- name: list_spending_by_model
-- The same by model; what the rehearsal model answered stands under its name.
SELECT iif(host = 'rehearsal', 'rehearsal', model), '', sum(calls), sum(estimated), sum(input_tokens), sum(output_tokens),
       sum(cache_read_tokens), sum(cache_write_tokens), sum(cost_micros)
FROM spending WHERE quarter >= :since GROUP BY 1 ORDER BY sum(cost_micros) DESC, 1;

-- name: list_spending_by_quarter
-- The same by quarter of an hour, from which days of any time zone are made.
SELECT quarter, '', sum(calls), sum(estimated), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
       sum(cache_write_tokens), sum(cost_micros)
FROM spending WHERE quarter >= :since GROUP BY 1 ORDER BY 1;

-- name: find_grant
-- Whether an approval's grant was used, once there is one.
SELECT used_at IS NOT NULL FROM grants WHERE approval = :approval;
