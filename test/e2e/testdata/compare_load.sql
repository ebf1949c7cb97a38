-- Multiples of 1000 are left alone: the test plants differences there.
\set base random(0, :thousands - 1) * 1000
\set id :base + random(1, 999)
\set other :base + random(1, 999)
\set fresh 2000000000 + :client_id * 100000 + random(1, 200)
BEGIN;
UPDATE item SET amount = amount + :id, changed = now() WHERE id = :id;
DELETE FROM item WHERE id = :other;
INSERT INTO item VALUES (:other, :id * 1.5, 'written again ' || :id) ON CONFLICT DO NOTHING;
INSERT INTO item VALUES (:fresh, 0, 'comes and goes') ON CONFLICT (id) DO UPDATE SET amount = item.amount + 1;
UPDATE document SET body = body || 'x' WHERE code = 'code-' || :id AND part = :id % 7;
INSERT INTO journal VALUES (:id, :other);
UPDATE counter SET n = n + 1 WHERE id = 1;
END;
DELETE FROM item WHERE id = :fresh;
