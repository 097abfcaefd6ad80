-- Changes of allotments. A change counts once per drop and change id, whoever tells of it and however often.

-- name: stock_change_give
-- Raises an allotment before the store is asked to. One the store refused earlier is given again.
-- $1 drop id; $2 change id; $3 SKU; $4 units, more than 0. Returns true if the allotment was raised now.
WITH given AS (
    INSERT INTO stock_changes AS c (drop_id, change_id, sku, delta, reason, state, at)
    SELECT $1, $2, sku, $4::integer, 'added', 'given', now() FROM drop_skus WHERE drop_id = $1 AND sku = $3
    ON CONFLICT (drop_id, change_id) DO UPDATE SET state = 'given', at = now()
    WHERE c.state = 'refused' AND c.sku = excluded.sku AND c.delta = excluded.delta
    RETURNING sku, delta
),
raised AS (
    UPDATE drop_skus s SET allotment = s.allotment + g.delta FROM given g WHERE s.drop_id = $1 AND s.sku = g.sku
)
SELECT EXISTS (SELECT FROM given)

-- name: stock_change_get
-- One change. $1 drop id; $2 change id.
SELECT sku, delta, reason, state FROM stock_changes WHERE drop_id = $1 AND change_id = $2

-- name: stock_change_take_back
-- Undoes what was given and the store refused. $1 drop id; $2 change id. Returns the SKU if that was so, else no row.
WITH back AS (
    UPDATE stock_changes SET state = 'refused' WHERE drop_id = $1 AND change_id = $2 AND state = 'given' RETURNING sku, delta
)
UPDATE drop_skus s SET allotment = s.allotment - b.delta FROM back b WHERE s.drop_id = $1 AND s.sku = b.sku RETURNING s.sku

-- name: stock_changes_tell
-- Notes changes the store has made. The allotment moves by what it has not moved by for the same change already.
-- $1 drop id; $2-$6 one array per column, each change id once: ids, SKUs, units, reasons, times in ms since the epoch
-- (0 for now); $7 the drop's epoch they are of, 0 for unknown.
-- Returns the drop's epoch. Nothing is written when that is later than $7; see orders_record.
-- The constraints of drop_skus have the last word: one that would be broken fails the statement and nothing of it stays.
WITH held AS MATERIALIZED (
    SELECT epoch FROM drops WHERE drop_id = $1 FOR KEY SHARE
),
incoming AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::integer[], $5::text[], $6::bigint[]) AS t (change_id, sku, delta, reason, at_ms)
    WHERE $7::bigint = 0 OR NOT EXISTS (SELECT FROM held WHERE epoch > $7::bigint)
),
before AS MATERIALIZED (
    SELECT change_id, sku, delta, state FROM stock_changes WHERE drop_id = $1 AND change_id = ANY($2::text[])
    ORDER BY change_id FOR UPDATE
),
told AS (
    INSERT INTO stock_changes AS c (drop_id, change_id, sku, delta, reason, state, at)
    SELECT $1, i.change_id, i.sku, i.delta, i.reason, 'told', coalesce(to_timestamp(nullif(i.at_ms, 0)::float8 / 1000), now())
    FROM incoming i WHERE (SELECT count(*) FROM before) >= 0 ORDER BY i.change_id
    ON CONFLICT (drop_id, change_id) DO UPDATE
    SET state = 'told', sku = excluded.sku, delta = excluded.delta, reason = excluded.reason, at = excluded.at
    WHERE c.state <> 'told'
    RETURNING change_id, sku, delta
),
moved AS (
    SELECT sku, sum(delta)::integer AS units FROM (
        SELECT sku, delta FROM told
        UNION ALL
        SELECT b.sku, -b.delta FROM before b JOIN told USING (change_id) WHERE b.state = 'given'
    ) both_ways
    GROUP BY sku HAVING sum(delta) <> 0
),
locked AS (
    SELECT s.sku, m.units FROM drop_skus s JOIN moved m USING (sku) WHERE s.drop_id = $1 ORDER BY s.sku FOR UPDATE OF s
),
changed AS (
    UPDATE drop_skus s SET allotment = s.allotment + l.units FROM locked l WHERE s.drop_id = $1 AND s.sku = l.sku
)
SELECT epoch FROM held

-- name: stock_changes_given
-- Changes the store has not answered for: whoever gave them may have died. $1 age in ms at least. The oldest first, at most 100.
SELECT drop_id, change_id, sku, delta FROM stock_changes
WHERE state = 'given' AND at < now() - make_interval(secs => $1::float8 / 1000)
ORDER BY at LIMIT 100

-- name: stock_changes_list
-- A drop's changes, the latest first. $1 drop id; $2 rows at most.
SELECT change_id, sku, delta, reason, state, (extract(epoch FROM at) * 1000)::bigint AS at_ms
FROM stock_changes WHERE drop_id = $1 ORDER BY at DESC, change_id LIMIT $2

-- name: stock_allotments
-- The allotments as Postgres has them now. $1 drop id.
SELECT sku, allotment, sold FROM drop_skus WHERE drop_id = $1 ORDER BY sku
