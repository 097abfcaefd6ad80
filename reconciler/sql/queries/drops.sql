-- Drops and their allotments.

-- name: drop_insert
-- Defines a drop; an existing one is left as it is.
-- $1 drop id; $2 tenant; $3 name; $4 definition as JSON, with "currency"; $5-$7 joins, opens, closes in ms since the epoch.
-- Returns the drop id if it was inserted, else no row.
INSERT INTO drops (drop_id, tenant, name, definition, joins_at, opens_at, closes_at)
VALUES ($1, $2, $3, $4::text::jsonb, to_timestamp($5::bigint::float8 / 1000), to_timestamp($6::bigint::float8 / 1000), to_timestamp($7::bigint::float8 / 1000))
ON CONFLICT (drop_id) DO NOTHING
RETURNING drop_id

-- name: drop_skus_insert
-- Gives a drop its SKUs; existing ones are left as they are.
-- $1 drop id; $2 SKUs; $3 names; $4 allotments; $5 prices in minor units; $6 limits per shopper. Returns the SKUs inserted.
INSERT INTO drop_skus (drop_id, sku, name, allotment, price_minor, limit_per_shopper)
SELECT $1, t.* FROM unnest($2::text[], $3::text[], $4::integer[], $5::bigint[], $6::integer[]) AS t
ON CONFLICT (drop_id, sku) DO NOTHING
RETURNING sku

-- name: drop_get
-- One drop, with the allotment of each SKU as it is now. $1 drop id.
SELECT
    drop_id, tenant, name, definition::text AS definition, currency, state, state_at_ms, epoch, opened_in_store,
    ARRAY(SELECT (sku, allotment) FROM drop_skus s WHERE s.drop_id = drops.drop_id ORDER BY sku) AS allotments,
    (extract(epoch FROM joins_at) * 1000)::bigint AS joins_at_ms,
    (extract(epoch FROM opens_at) * 1000)::bigint AS opens_at_ms,
    (extract(epoch FROM closes_at) * 1000)::bigint AS closes_at_ms,
    created_at
FROM drops WHERE drop_id = $1

-- name: drop_list
-- Drops by opening, the latest first, with allotments as in drop_get. $1 tenant, or null for all. At most 1000.
SELECT
    drop_id, tenant, name, definition::text AS definition, currency, state, state_at_ms, epoch, opened_in_store,
    ARRAY(SELECT (sku, allotment) FROM drop_skus s WHERE s.drop_id = drops.drop_id ORDER BY sku) AS allotments,
    (extract(epoch FROM joins_at) * 1000)::bigint AS joins_at_ms,
    (extract(epoch FROM opens_at) * 1000)::bigint AS opens_at_ms,
    (extract(epoch FROM closes_at) * 1000)::bigint AS closes_at_ms,
    created_at
FROM drops WHERE $1::text IS NULL OR tenant = $1
ORDER BY opens_at DESC, drop_id
LIMIT 1000

-- name: drop_opened_in_store
-- Notes that the store holds the drop at an epoch; an epoch never goes back. $1 drop id; $2 epoch. Returns the epoch.
UPDATE drops SET opened_in_store = true, epoch = greatest(epoch, $2::integer) WHERE drop_id = $1 RETURNING epoch

-- name: drop_has_happened
-- Whether anything is known that only a store that held the drop can have told. $1 drop id.
SELECT
    EXISTS (SELECT FROM orders WHERE reservation_id > $1::text || '.r' AND reservation_id < $1::text || '.s')
    OR EXISTS (SELECT FROM journal_marks WHERE drop_id = $1)
    OR EXISTS (SELECT FROM drop_skus WHERE drop_id = $1 AND sold > 0)
    OR EXISTS (SELECT FROM stock_changes WHERE drop_id = $1 AND state = 'told')
    OR EXISTS (SELECT FROM drops WHERE drop_id = $1 AND (picture IS NOT NULL OR state_at_ms > 0))

-- name: drops_to_open
-- Drops the store has not been given yet, the most urgent first. At most 100.
SELECT drop_id FROM drops WHERE NOT opened_in_store ORDER BY opens_at, drop_id LIMIT 100

-- name: drop_state_record
-- Notes the state a journal entry tells of; older news is ignored. $1 drop id; $2 state; $3 at ms. Returns the drop id if it
-- changed, else no row.
UPDATE drops SET state = $2, state_at_ms = $3::bigint WHERE drop_id = $1 AND state_at_ms < $3::bigint RETURNING drop_id

-- name: drop_totals
-- Per SKU: allotment; sold; and units of orders that count as sold, are paid, and are pending. $1 drop id.
SELECT
    s.sku, s.allotment, s.sold,
    coalesce(u.counted, 0)::bigint AS counted_units,
    coalesce(u.paid, 0)::bigint AS paid_units,
    coalesce(u.pending, 0)::bigint AS pending_units
FROM drop_skus s
LEFT JOIN (
    SELECT
        i.sku,
        sum(i.quantity) FILTER (WHERE o.units_counted) AS counted,
        sum(i.quantity) FILTER (WHERE o.state = 'paid') AS paid,
        sum(i.quantity) FILTER (WHERE o.state = 'pending') AS pending
    FROM order_items i JOIN orders o USING (reservation_id)
    WHERE i.reservation_id > $1::text || '.r' AND i.reservation_id < $1::text || '.s'
        AND o.reservation_id > $1::text || '.r' AND o.reservation_id < $1::text || '.s'
    GROUP BY i.sku
) u USING (sku)
WHERE s.drop_id = $1
ORDER BY s.sku

-- name: drops_live
-- Drops whose journal may still bring news: opened in the store and not over for more than two days; those whose opening is
-- nearest come first. At most 1000.
SELECT drop_id FROM drops WHERE opened_in_store AND closes_at > now() - interval '2 days'
ORDER BY abs(extract(epoch FROM opens_at - now())), drop_id
LIMIT 1000

-- name: drops_past
-- Those of some drops that are over for more than two days, the latest first. $1 drop ids.
SELECT drop_id FROM drops WHERE drop_id = ANY($1::text[]) AND opened_in_store AND closes_at <= now() - interval '2 days'
ORDER BY closes_at DESC, drop_id

-- name: draw_insert
-- Keeps the secret of a drop's draw. $1 drop id; $2 secret.
INSERT INTO draws (drop_id, secret) VALUES ($1, $2)

-- name: draw_get
-- The draw of a drop; no row when its line goes by arrival. $1 drop id.
SELECT secret, drawn::text AS drawn FROM draws WHERE drop_id = $1

-- name: draw_record
-- Notes what was drawn, the first time. $1 drop id; $2 the draw as JSON. Returns the drop id if it was noted, else no row.
UPDATE draws SET drawn = $2::text::jsonb WHERE drop_id = $1 AND drawn IS NULL RETURNING drop_id
