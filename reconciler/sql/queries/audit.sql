-- What the auditor reads, and where it leaves what it found.

-- name: audit_snapshot
-- From here to the end of the transaction every query sees the same instant. The first statement of a transaction.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY

-- name: audit_totals
-- Per SKU: allotment, units of it the store has yet to take, sold, and units of orders counted and pending. $1 drop id.
SELECT
    s.sku, s.allotment, s.sold,
    coalesce(u.counted, 0)::bigint AS counted_units,
    coalesce(u.pending, 0)::bigint AS pending_units,
    coalesce(g.units, 0)::bigint AS given_units
FROM drop_skus s
LEFT JOIN (
    SELECT
        i.sku,
        sum(i.quantity) FILTER (WHERE o.units_counted) AS counted,
        sum(i.quantity) FILTER (WHERE o.state = 'pending') AS pending
    FROM order_items i JOIN orders o USING (reservation_id)
    WHERE i.reservation_id > $1::text || '.r' AND i.reservation_id < $1::text || '.s'
        AND o.reservation_id > $1::text || '.r' AND o.reservation_id < $1::text || '.s'
    GROUP BY i.sku
) u USING (sku)
LEFT JOIN (
    SELECT sku, sum(delta) AS units FROM stock_changes WHERE drop_id = $1 AND state = 'given' GROUP BY sku
) g USING (sku)
WHERE s.drop_id = $1
ORDER BY s.sku

-- name: audit_orders_count
-- Orders of a drop in any state. $1 drop id.
SELECT count(*) FROM orders WHERE reservation_id > $1::text || '.r' AND reservation_id < $1::text || '.s'

-- name: audit_orders_named
-- The state of the orders named, and whether they count. $1 reservation ids.
SELECT reservation_id, state, units_counted FROM orders WHERE reservation_id = ANY($1::text[])

-- name: audit_changes_told
-- Those of the changes named that are in the allotments. $1 drop id; $2 change ids.
SELECT change_id FROM stock_changes WHERE drop_id = $1 AND change_id = ANY($2::text[]) AND state = 'told'

-- name: audit_orders_page
-- A page of a drop's orders by id, with their items as two arrays.
-- $1 drop id; $2 the last id of the page before, '' for the first page; $3 rows at most.
SELECT
    o.reservation_id, o.state, o.units_counted,
    ARRAY(SELECT i.sku FROM order_items i WHERE i.reservation_id = o.reservation_id ORDER BY i.sku) AS skus,
    ARRAY(SELECT i.quantity FROM order_items i WHERE i.reservation_id = o.reservation_id ORDER BY i.sku) AS quantities
FROM orders o
WHERE o.reservation_id > greatest($1::text || '.r', $2::text) AND o.reservation_id < $1::text || '.s'
ORDER BY o.reservation_id
LIMIT $3

-- name: audit_record
-- Leaves the last audit of a drop. $1 drop id; $2 result; $3 findings as JSON; $4 whether the drop was paused for them just
-- now. The time of that stays until the drop is clean. A drop Postgres does not know is left out.
INSERT INTO audits AS a (drop_id, audited_at, result, findings, paused_at)
SELECT $1, now(), $2, $3::text::jsonb, CASE WHEN $4::boolean THEN now() END FROM drops WHERE drop_id = $1
ON CONFLICT (drop_id) DO UPDATE SET
    audited_at = excluded.audited_at, result = excluded.result, findings = excluded.findings,
    paused_at = CASE WHEN excluded.result = 'clean' THEN NULL ELSE coalesce(excluded.paused_at, a.paused_at) END

-- name: audit_last
-- The last audit of a drop. $1 drop id.
SELECT
    result, findings::text AS findings,
    (extract(epoch FROM audited_at) * 1000)::bigint AS audited_at_ms,
    (extract(epoch FROM paused_at) * 1000)::bigint AS paused_at_ms
FROM audits WHERE drop_id = $1

-- name: repair_sold
-- Sets sold to the units of the orders counted, where it is not. Waits for whoever is counting. $1 drop id. Returns the SKUs.
WITH counted AS (
    SELECT i.sku, sum(i.quantity)::integer AS units
    FROM order_items i JOIN orders o USING (reservation_id)
    WHERE i.reservation_id > $1::text || '.r' AND i.reservation_id < $1::text || '.s' AND o.units_counted
    GROUP BY i.sku
)
UPDATE drop_skus s SET sold = coalesce((SELECT units FROM counted c WHERE c.sku = s.sku), 0)
WHERE s.drop_id = $1 AND s.sold <> coalesce((SELECT units FROM counted c WHERE c.sku = s.sku), 0)
RETURNING s.sku, s.sold
