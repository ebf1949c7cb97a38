-- Writes to every table of the copy tests, now and then in two pieces.
\set id random(1, 60000)
\set other random(1, 30000)
\set delta random(-100, 100)
BEGIN;
UPDATE account SET balance = balance + :delta WHERE id = :id;
INSERT INTO movement VALUES (:id, :delta, clock_timestamp());
UPDATE late SET v = v + 1 WHERE id = :other;
INSERT INTO late VALUES (:other, 1) ON CONFLICT (id) DO UPDATE SET v = excluded.v + late.v;
INSERT INTO late_movement VALUES (:other, :delta);
DELETE FROM account WHERE id = :other AND balance > 50;
COMMIT;
INSERT INTO account VALUES (:other, 0, 'again') ON CONFLICT DO NOTHING;
