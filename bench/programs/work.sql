-- A table made, indexed, joined, grouped, changed: all in memory.
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, kind INT, price REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
INSERT INTO item SELECT i, 'item ' || (i * 7919 % 40009), i % 37, i * 0.25
FROM n;
CREATE INDEX item_name ON item(name);
CREATE TABLE kind(id INTEGER PRIMARY KEY, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 36)
INSERT INTO kind SELECT i, 'kind ' || i FROM n;
SELECT k.name, count(*), round(sum(i.price), 2), max(i.name) FROM item i
JOIN kind k ON k.id = i.kind GROUP BY k.id ORDER BY 3 DESC LIMIT 3;
UPDATE item SET price = price * 1.1 WHERE name LIKE '%77%';
SELECT count(*) FROM item a JOIN item b ON b.name = 'item ' || a.id
WHERE a.kind < 20;
DELETE FROM item WHERE id % 3 = 0;
SELECT count(*), round(avg(price), 3) FROM item;
