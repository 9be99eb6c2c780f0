-- name: create_schema#
-- An empty file becomes a ledger of version 1.
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

-- name: add_usage!
-- What an allowed call used, once it ended.
INSERT INTO usage (call, at, session, fence, agent_group, charge, host, model, input_tokens, output_tokens,
                   cache_read_tokens, cache_write_tokens)
VALUES (:call, :at, :session, :fence, :agent_group, :charge, :host, :model, :input_tokens, :output_tokens,
        :cache_read_tokens, :cache_write_tokens);

-- name: list_newest
-- The newest rows, newest first.
SELECT seq, at, event, session, fence, agent_group, charge, method, host, path, rule, reason, call, status, sent_bytes,
       received_bytes, took_ms, hash
FROM audit ORDER BY seq DESC LIMIT :limit;

-- name: list_newest_of_session
-- The newest rows of one session, newest first.
SELECT seq, at, event, session, fence, agent_group, charge, method, host, path, rule, reason, call, status, sent_bytes,
       received_bytes, took_ms, hash
FROM audit WHERE session = :session ORDER BY seq DESC LIMIT :limit;

-- name: list_chain
-- Every row in the order of the chain, some at a time.
SELECT seq, at, event, session, fence, agent_group, charge, method, host, path, rule, reason, call, status, sent_bytes,
       received_bytes, took_ms, hash
FROM audit WHERE seq > :after ORDER BY seq LIMIT 1000;

-- name: list_usage
-- What calls used since a time, oldest first.
SELECT call, at, session, fence, agent_group, charge, host, model, input_tokens, output_tokens, cache_read_tokens,
       cache_write_tokens
FROM usage WHERE at >= :since ORDER BY call;
