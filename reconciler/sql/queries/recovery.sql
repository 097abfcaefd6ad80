-- What Postgres knows of drops that a store may have lost.

-- name: drops_recorded
-- Live drops as the store should hold them: opened there and not over for more than two days. At most 1000. See drop_recorded.
SELECT
    d.drop_id, d.definition::text AS definition, d.state, d.state_at_ms, d.epoch, d.picture::text AS picture,
    coalesce((SELECT max(m.sequence) FROM journal_marks m WHERE m.drop_id = d.drop_id), 0) AS sequence
FROM drops d WHERE d.opened_in_store AND d.closes_at > now() - interval '2 days'
ORDER BY d.opens_at DESC, d.drop_id
LIMIT 1000

-- name: drop_recorded
-- One drop as the store should hold it; no row when the store has never been given it. $1 drop id.
SELECT
    d.drop_id, d.definition::text AS definition, d.state, d.state_at_ms, d.epoch, d.picture::text AS picture,
    coalesce((SELECT max(m.sequence) FROM journal_marks m WHERE m.drop_id = d.drop_id), 0) AS sequence
FROM drops d WHERE d.opened_in_store AND d.drop_id = $1

-- name: drop_picture_note
-- Keeps the latest picture of a drop and how many changes it had seen. $1 drop id; $2 picture as JSON; $3 sequence.
WITH pictured AS (
    UPDATE drops SET picture = $2::text::jsonb WHERE drop_id = $1
)
INSERT INTO journal_marks AS m (drop_id, lane, sequence) VALUES ($1, 0, $3::bigint)
ON CONFLICT (drop_id, lane) DO UPDATE SET sequence = excluded.sequence WHERE m.sequence < excluded.sequence

-- name: drop_epoch_raise
-- Notes that the drop begins a new epoch in the store; an epoch never goes back. $1 drop id; $2 epoch. Returns the epoch.
-- The lock is the one that orders_record and stock_changes_tell wait for: when this is done, what they have written of
-- earlier epochs can be read, and they write no more of them.
WITH held AS MATERIALIZED (SELECT drop_id FROM drops WHERE drop_id = $1 FOR UPDATE)
UPDATE drops d SET epoch = greatest(d.epoch, $2::integer) FROM held WHERE d.drop_id = held.drop_id RETURNING d.epoch

-- name: recovery_lock
-- Whether this connection may recover the drop; nobody else may until it ends or unlocks. $1 class of the lock; $2 drop id.
SELECT pg_try_advisory_lock($1::integer, hashtext($2))

-- name: recovery_unlock
-- $1 and $2 as for recovery_lock.
SELECT pg_advisory_unlock($1::integer, hashtext($2))

-- name: recovery_skus
-- Per SKU: the allotment the store should have (without units it has yet to be told of); units counted as sold; units of
-- paid and of pending orders; price and limit. $1 drop id.
SELECT
    s.sku, s.sold, s.price_minor, s.limit_per_shopper,
    s.allotment - coalesce((
        SELECT sum(c.delta) FROM stock_changes c WHERE c.drop_id = s.drop_id AND c.sku = s.sku AND c.state = 'given'
    ), 0)::integer AS allotment,
    coalesce(u.paid, 0)::integer AS paid_units,
    coalesce(u.pending, 0)::integer AS pending_units
FROM drop_skus s
LEFT JOIN (
    SELECT
        i.sku,
        sum(i.quantity) FILTER (WHERE o.state = 'paid') AS paid,
        sum(i.quantity) FILTER (WHERE o.state = 'pending') AS pending
    FROM order_items i JOIN orders o USING (reservation_id)
    WHERE i.reservation_id > $1::text || '.r' AND i.reservation_id < $1::text || '.s'
        AND o.reservation_id > $1::text || '.r' AND o.reservation_id < $1::text || '.s'
    GROUP BY i.sku
) u USING (sku)
WHERE s.drop_id = $1
ORDER BY s.sku

-- name: recovery_totals
-- Orders of a drop; those that are pending, and of them those that have run out. $1 drop id; $2 now in ms.
SELECT
    count(*) AS orders,
    count(*) FILTER (WHERE state = 'pending') AS pending,
    count(*) FILTER (WHERE state = 'pending' AND expires_at <= to_timestamp($2::bigint::float8 / 1000)) AS overdue
FROM orders WHERE reservation_id > $1::text || '.r' AND reservation_id < $1::text || '.s'

-- name: recovery_highest
-- For each line of a drop the highest number that has an order. $1 drop id; $2 places from one line to the next.
SELECT queue_number / $2::bigint AS line, max(queue_number % $2::bigint) AS number
FROM orders WHERE reservation_id > $1::text || '.r' AND reservation_id < $1::text || '.s'
GROUP BY line

-- name: recovery_pending
-- Pending orders with their items, in the order they were made: for the rare case that they hold more than there is. $1 drop id.
SELECT
    o.reservation_id,
    ARRAY(SELECT i.sku FROM order_items i WHERE i.reservation_id = o.reservation_id ORDER BY i.sku) AS skus,
    ARRAY(SELECT i.quantity FROM order_items i WHERE i.reservation_id = o.reservation_id ORDER BY i.sku) AS quantities
FROM orders o
WHERE o.reservation_id > $1::text || '.r' AND o.reservation_id < $1::text || '.s' AND o.state = 'pending'
ORDER BY o.reserved_at, o.reservation_id

-- name: recovery_orders
-- All orders of a drop with their items and the payments of theirs that go back (not those a person has yet to decide), those
-- of a shopper together. Read through a cursor. $1 drop id.
SELECT
    o.ticket_id, o.queue_number, o.reservation_id, o.state, o.amount_minor, coalesce(o.payment_reference, '') AS payment_reference,
    o.request_id, i.skus, i.quantities, coalesce(r.payments, '{}') AS going_back,
    (extract(epoch FROM o.reserved_at) * 1000)::bigint AS reserved_at_ms,
    (extract(epoch FROM o.expires_at) * 1000)::bigint AS expires_at_ms
FROM orders o
JOIN (
    SELECT reservation_id, array_agg(sku ORDER BY sku) AS skus, array_agg(quantity ORDER BY sku) AS quantities
    FROM order_items WHERE reservation_id > $1::text || '.r' AND reservation_id < $1::text || '.s'
    GROUP BY reservation_id
) i USING (reservation_id)
LEFT JOIN (
    SELECT reservation_id, array_agg(payment_reference ORDER BY created_at, payment_reference) AS payments
    FROM refunds WHERE reservation_id > $1::text || '.r' AND reservation_id < $1::text || '.s' AND state <> 'held'
    GROUP BY reservation_id
) r USING (reservation_id)
WHERE o.reservation_id > $1::text || '.r' AND o.reservation_id < $1::text || '.s'
ORDER BY o.ticket_id, o.reserved_at, o.reservation_id

-- name: recovery_stock_changes
-- The merchant's changes of allotments that the store was told of, so that repeating one changes nothing. $1 drop id. At most
-- 10000.
SELECT change_id, sku, delta, (extract(epoch FROM at) * 1000)::bigint AS at_ms FROM stock_changes
WHERE drop_id = $1 AND state = 'told' AND NOT starts_with(change_id, 'drain:')
ORDER BY at DESC, change_id
LIMIT 10000
