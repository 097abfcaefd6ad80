-- Orders: how they are recorded, and how they are read. Ranges over reservation_id ('<drop>.r' up to '<drop>.s') are all
-- orders of a drop in the order of the primary key.

-- name: orders_record
-- Records a batch of orders of one drop: rows, items, units sold, outbox, refunds, in one round trip.
-- $1 drop id; $2-$12 one array per column, one element per order, sorted by reservation id so that two consumers lock in
-- the same order; $13-$15 one element per item; $16 how far the drop's count of changes had come, 0 for unknown; $17 the
-- drop's epoch these orders are of, 0 for unknown. Times are ms since 1970, 0 for none; texts are '' for none.
-- Returns one row: written = rows that changed; paid = those of them newly paid; epoch = the drop's, null for an unknown drop.
-- Nothing is written when that is later than $17. The lock, which the orders' reference to the drop takes anyway, lets
-- drop_epoch_raise wait for what is being written, and this wait for that one.
-- The guard against selling a unit twice is drop_skus_sold_within_allotment: when the units of all newly paid orders do not
-- fit, that constraint fails the statement and nothing of it stays, without a transaction around it or a second round trip.
-- An order returned as paid was of lower rank before, so its units were not counted yet: the rank rule alone makes the
-- counting exact, whoever else records the same order at the same time. xmax = 0 marks a row inserted by this statement.
-- An order that becomes refund_due gives back the units it had counted; units_returned says so within the row, so that
-- too is exact. A pending order's expiry only moves forward. A payment that was held for a person is due from now on. One that
-- was closed while it paid for the order has gone back if a provider was asked or said so; else only a person knows.
-- An unknown drop gets the currency code for none, so that the check of references names the fault.
WITH held AS MATERIALIZED (
    SELECT epoch, currency FROM drops WHERE drop_id = $1 FOR KEY SHARE
),
incoming AS (
    SELECT * FROM unnest(
        $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[],
        $11::text[], $12::text[]
    ) AS t (reservation_id, ticket_id, queue_number, state, amount_minor, payment_reference, reserved_ms, expires_ms, at_ms,
        reason, request_id)
    WHERE $17::bigint = 0 OR NOT EXISTS (SELECT FROM held WHERE epoch > $17::bigint)
),
written AS (
    INSERT INTO orders AS o (
        reservation_id, drop_id, ticket_id, queue_number, state, units_counted, amount_minor, currency, payment_reference,
        reserved_at, expires_at, paid_at, finished_at, reason, request_id
    )
    SELECT
        i.reservation_id, $1, i.ticket_id, i.queue_number, i.state, i.state = 'paid', i.amount_minor, d.currency,
        nullif(i.payment_reference, ''), to_timestamp(i.reserved_ms::float8 / 1000), to_timestamp(i.expires_ms::float8 / 1000),
        CASE WHEN order_rank(i.state) >= 2 THEN to_timestamp(i.at_ms::float8 / 1000) END,
        CASE WHEN i.state <> 'pending' THEN to_timestamp(i.at_ms::float8 / 1000) END,
        i.reason, i.request_id
    FROM incoming i CROSS JOIN (SELECT coalesce(max(currency), 'XXX') AS currency FROM held) d
    ON CONFLICT (reservation_id) DO UPDATE SET
        state = excluded.state,
        units_counted = excluded.units_counted,
        units_returned = o.units_counted AND NOT excluded.units_counted,
        expires_at = greatest(o.expires_at, excluded.expires_at),
        payment_reference = excluded.payment_reference,
        paid_at = coalesce(o.paid_at, excluded.paid_at),
        finished_at = excluded.finished_at,
        reason = excluded.reason,
        request_id = excluded.request_id,
        updated_at = now()
    WHERE order_rank(excluded.state) > order_rank(o.state)
        OR (excluded.state = 'pending' AND o.state = 'pending' AND excluded.expires_at > o.expires_at)
    RETURNING reservation_id, state, amount_minor, currency, payment_reference, reason, units_returned, (xmax = 0) AS fresh
),
item AS MATERIALIZED (
    SELECT t.sku, t.quantity, w.reservation_id, w.state, w.units_returned, w.fresh
    FROM unnest($13::text[], $14::text[], $15::integer[]) AS t (reservation_id, sku, quantity)
    JOIN written w USING (reservation_id)
),
items AS (
    INSERT INTO order_items (reservation_id, drop_id, sku, quantity)
    SELECT reservation_id, $1, sku, quantity FROM item WHERE fresh
),
units AS (
    SELECT sku, sum(CASE WHEN units_returned THEN -quantity ELSE quantity END) AS units
    FROM item WHERE state = 'paid' OR units_returned GROUP BY sku
),
locked AS (
    SELECT s.sku, u.units FROM drop_skus s JOIN units u USING (sku) WHERE s.drop_id = $1 ORDER BY s.sku FOR UPDATE OF s
),
raised AS (
    UPDATE drop_skus s SET sold = s.sold + l.units
    FROM locked l
    WHERE s.drop_id = $1 AND s.sku = l.sku
),
noted AS (
    INSERT INTO outbox (drop_id, reservation_id, event, payload)
    SELECT $1, reservation_id, 'order.' || state,
        jsonb_build_object('state', state, 'amount_minor', amount_minor, 'currency', currency)
    FROM written WHERE state <> 'pending'
),
owed AS (
    INSERT INTO refunds (reservation_id, drop_id, amount_minor, currency, payment_reference, reason)
    SELECT reservation_id, $1, amount_minor, currency, payment_reference, reason FROM written WHERE state = 'refund_due'
    ON CONFLICT (reservation_id, payment_reference) DO UPDATE SET
        state = CASE
            WHEN refunds.state = 'held' THEN 'due'
            WHEN refunds.attempts > 0 OR refunds.provider_refund_id <> '' OR refunds.amount_minor = 0 THEN 'settled'
            ELSE 'failed'
        END,
        last_error = CASE WHEN refunds.state IN ('settled', 'done') THEN 'closed by hand before the order was taken back' ELSE '' END,
        finished_at = NULL, next_attempt_at = now(),
        amount_minor = excluded.amount_minor, currency = excluded.currency, reason = excluded.reason
    WHERE refunds.state IN ('held', 'settled', 'done')
),
marked AS (
    INSERT INTO journal_marks AS m (drop_id, lane, sequence)
    SELECT $1, 1 + pg_backend_pid() % 63, $16::bigint FROM held
    WHERE $16::bigint > 0 AND ($17::bigint = 0 OR epoch <= $17::bigint)
    ON CONFLICT (drop_id, lane) DO UPDATE SET sequence = excluded.sequence WHERE m.sequence < excluded.sequence
)
SELECT
    (SELECT count(*) FROM written)::integer AS written,
    (SELECT count(*) FROM written WHERE state = 'paid')::integer AS paid,
    (SELECT epoch FROM held) AS epoch

-- name: skus_lock
-- The SKUs of a drop with the units that can still be sold, locked in SKU order until the transaction ends.
-- Nobody else can newly count a paid order of the drop meanwhile, so what is read next stays true. $1 drop id.
SELECT sku, allotment - sold AS free FROM drop_skus WHERE drop_id = $1 ORDER BY sku FOR UPDATE

-- name: wait_for_orders
-- The states of the orders named. $1 reservation ids; those not recorded yet are absent.
SELECT reservation_id, state FROM orders WHERE reservation_id = ANY($1::text[])

-- name: order_by_id
-- One order with its items as two arrays in SKU order. $1 reservation id.
SELECT
    o.reservation_id, o.drop_id, o.ticket_id, o.queue_number, o.state, o.amount_minor, o.currency, o.payment_reference, o.reason,
    o.request_id, o.recorded_at,
    (extract(epoch FROM o.reserved_at) * 1000)::bigint AS reserved_at_ms,
    (extract(epoch FROM o.expires_at) * 1000)::bigint AS expires_at_ms,
    (extract(epoch FROM o.paid_at) * 1000)::bigint AS paid_at_ms,
    (extract(epoch FROM o.finished_at) * 1000)::bigint AS finished_at_ms,
    ARRAY(SELECT i.sku FROM order_items i WHERE i.reservation_id = o.reservation_id ORDER BY i.sku) AS skus,
    ARRAY(SELECT i.quantity FROM order_items i WHERE i.reservation_id = o.reservation_id ORDER BY i.sku) AS quantities
FROM orders o
WHERE o.reservation_id = $1

-- name: orders_page
-- A page of a drop's orders in the order of their ids, with items as in order_by_id.
-- $1 drop id; $2 the last id of the page before, '' for the first page; $3 rows at most.
SELECT
    o.reservation_id, o.drop_id, o.ticket_id, o.queue_number, o.state, o.amount_minor, o.currency, o.payment_reference, o.reason,
    o.request_id, o.recorded_at,
    (extract(epoch FROM o.reserved_at) * 1000)::bigint AS reserved_at_ms,
    (extract(epoch FROM o.expires_at) * 1000)::bigint AS expires_at_ms,
    (extract(epoch FROM o.paid_at) * 1000)::bigint AS paid_at_ms,
    (extract(epoch FROM o.finished_at) * 1000)::bigint AS finished_at_ms,
    ARRAY(SELECT i.sku FROM order_items i WHERE i.reservation_id = o.reservation_id ORDER BY i.sku) AS skus,
    ARRAY(SELECT i.quantity FROM order_items i WHERE i.reservation_id = o.reservation_id ORDER BY i.sku) AS quantities
FROM orders o
WHERE o.reservation_id > greatest($1::text || '.r', $2::text) AND o.reservation_id < $1::text || '.s'
ORDER BY o.reservation_id
LIMIT $3

-- name: order_counts
-- Orders of a drop by state. $1 drop id.
SELECT state, count(*) AS orders FROM orders
WHERE reservation_id > $1::text || '.r' AND reservation_id < $1::text || '.s'
GROUP BY state ORDER BY order_rank(state), state

-- name: order_counts_lately
-- Orders of a drop by state, and how many of them were first recorded in the last minute. $1 drop id.
SELECT state, count(*) AS orders, count(*) FILTER (WHERE recorded_at > now() - interval '1 minute') AS lately FROM orders
WHERE reservation_id > $1::text || '.r' AND reservation_id < $1::text || '.s'
GROUP BY state

-- name: duplicate_orders
-- Payments that more than one order of a drop names: either one payment for several reservations, or a payment counted
-- twice; a person decides. $1 drop id.
SELECT payment_reference, array_agg(reservation_id ORDER BY reservation_id) AS reservation_ids FROM orders
WHERE reservation_id > $1::text || '.r' AND reservation_id < $1::text || '.s' AND payment_reference IS NOT NULL
GROUP BY payment_reference HAVING count(*) > 1
ORDER BY payment_reference
LIMIT 1000

-- name: outbox_undelivered
-- The oldest events nobody has been told yet. $1 rows at most; $2 only events after this id.
SELECT id, drop_id, reservation_id, event, payload::text AS payload, created_at FROM outbox
WHERE delivered_at IS NULL AND id > $2
ORDER BY id
LIMIT $1

-- name: outbox_backlog
-- How many events wait, counted to at most $1, so that a long backlog stays cheap to measure.
SELECT count(*)::integer FROM (SELECT FROM outbox WHERE delivered_at IS NULL LIMIT $1) waiting

-- name: outbox_delivered
-- Marks events as delivered; repeated, it changes nothing. $1 ids. Returns the ids marked now.
UPDATE outbox SET delivered_at = now() WHERE id = ANY($1::bigint[]) AND delivered_at IS NULL RETURNING id
