-- The two files of a run's mailbox (architecture section 6). One writer each; the other side only reads.
-- The host compares sqlite_schema of outbound.db with the text below byte for byte before it reads a row.

-- file: inbound.db
-- written by the host, read by the runner
CREATE TABLE run (
  fence INTEGER PRIMARY KEY,
  session TEXT NOT NULL,
  settings TEXT NOT NULL
) STRICT;
CREATE TABLE messages (
  seq INTEGER PRIMARY KEY CHECK (seq % 2 = 0),
  inbox_id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  kind TEXT NOT NULL,
  trigger INTEGER NOT NULL CHECK (trigger IN (0, 1)),
  content TEXT NOT NULL
) STRICT;
CREATE TABLE destinations (
  name TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  display_name TEXT NOT NULL
) STRICT;
CREATE TABLE receipts (
  seq INTEGER PRIMARY KEY,
  state TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;
CREATE TABLE answers (
  id TEXT PRIMARY KEY,
  content TEXT NOT NULL
) STRICT;

-- file: outbound.db
-- written by the runner, read by the host as hostile; acks are appended, never changed
CREATE TABLE messages (
  seq INTEGER PRIMARY KEY CHECK (seq % 2 = 1),
  turn TEXT NOT NULL,
  reply_to INTEGER,
  kind TEXT NOT NULL,
  content TEXT NOT NULL
) STRICT;
CREATE TABLE acks (
  seq INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('taken', 'finished', 'failed')),
  turn TEXT NOT NULL,
  UNIQUE (seq, attempt, state)
) STRICT;
CREATE TABLE state (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;
