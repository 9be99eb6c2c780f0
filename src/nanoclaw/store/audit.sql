-- name: last_hash^
SELECT hash FROM audit ORDER BY n DESC LIMIT 1;

-- name: append!
INSERT INTO audit (at, event, actor, subject, verdict, reason, previous, hash)
VALUES (:at, :event, :actor, :subject, :verdict, :reason, :previous, :hash);

-- name: list_rows
SELECT * FROM audit WHERE n > :after ORDER BY n LIMIT :most;

-- name: find_head^
SELECT n, hash FROM audit ORDER BY n DESC LIMIT 1;

-- name: last_rows
SELECT * FROM audit ORDER BY n DESC LIMIT :most;

-- name: list_about
SELECT * FROM audit WHERE subject >= :subject AND subject < :after ORDER BY n LIMIT 100;
