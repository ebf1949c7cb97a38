-- Writes to the tables of the copy that is killed: rows that move to other pages,
-- with values out of line that stay, keys that change, unique values that are taken
-- over.
\set id random(1, :rows)
\set other random(1, :rows)
\set number random(3, 1000000)
BEGIN;
UPDATE doc SET n = n + 1 WHERE id = :id;
UPDATE doc SET id = id + 100000000 WHERE id = :other AND id % 7 = 0;
UPDATE item SET v = v + 1, filler = repeat('v', v % 150) WHERE id = :id;
DELETE FROM item WHERE id = :other + 100000000;
UPDATE item SET id = id + 100000000 WHERE id = :other AND id % 11 = 0;
WITH gone AS (DELETE FROM pair WHERE a = :id AND b = 1 RETURNING code)
INSERT INTO pair SELECT :other, :number, code FROM gone ON CONFLICT DO NOTHING;
COMMIT;
DELETE FROM item WHERE id = :other;
INSERT INTO item VALUES (:other, 0, 'again') ON CONFLICT DO NOTHING;
