-- name: insert_proof!
INSERT INTO sandbox_proofs (id, agent_group_id, runtime, spec_hash, boot, passed, results, took_ms, proved_at)
VALUES (:id, :agent_group_id, :runtime, :spec_hash, :boot, :passed, :results, :took_ms, :now);

-- name: prune_proofs!
-- ids are ULIDs: their order is that in which they were made
DELETE FROM sandbox_proofs WHERE agent_group_id IS :agent_group_id AND id NOT IN (
  SELECT id FROM sandbox_proofs WHERE agent_group_id IS :agent_group_id ORDER BY id DESC LIMIT :kept);

-- name: find_newest^
SELECT id, passed FROM sandbox_proofs WHERE agent_group_id IS :agent_group_id AND runtime = :runtime
AND spec_hash = :spec_hash AND boot = :boot ORDER BY id DESC LIMIT 1;
