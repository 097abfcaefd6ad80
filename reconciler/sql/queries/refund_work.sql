-- Refunds as work: one row per payment that must go back, driven until the provider has said that the money went back.

-- name: refunds_owe
-- Records payments that pay for nothing; one that is recorded stays as it is, one held for a person is due from now on.
-- $1 drop id; $2-$5 one array per column. Returns the ids of those that are new or newly due.
INSERT INTO refunds AS r (reservation_id, drop_id, amount_minor, currency, payment_reference, reason)
SELECT DISTINCT ON (t.reservation_id, t.payment_reference)
    t.reservation_id, $1, t.amount_minor, d.currency, t.payment_reference, t.reason
FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[]) AS t (reservation_id, amount_minor, payment_reference, reason)
CROSS JOIN (SELECT coalesce(max(currency), 'XXX') AS currency FROM drops WHERE drop_id = $1) d
ORDER BY t.reservation_id, t.payment_reference, t.amount_minor DESC
ON CONFLICT (reservation_id, payment_reference) DO UPDATE SET
    state = 'due', amount_minor = excluded.amount_minor, currency = excluded.currency, reason = excluded.reason
WHERE r.state = 'held'
RETURNING refund_id

-- name: refund_hold
-- Keeps a payment that matches nothing, for a person to decide; one that is known stays as it is.
-- $1 reservation id as reported; $2 drop id, '' when it names none; $3 amount; $4 currency, '' when not reported;
-- $5 payment reference; $6 reason; $7 provider.
INSERT INTO refunds (reservation_id, drop_id, amount_minor, currency, payment_reference, reason, state, provider)
VALUES ($1, $2, $3::bigint, $4, $5, $6, 'held', $7)
ON CONFLICT (reservation_id, payment_reference) DO NOTHING

-- name: refunds_hold
-- Keeps payments for a person to decide; one that is known, or pays for its order already, stays as it is.
-- $1 drop id; $2-$5 one array per column. Returns the ids of those that are new.
INSERT INTO refunds (reservation_id, drop_id, amount_minor, currency, payment_reference, reason, state)
SELECT DISTINCT ON (t.reservation_id, t.payment_reference)
    t.reservation_id, $1, t.amount_minor, d.currency, t.payment_reference, t.reason, 'held'
FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[]) AS t (reservation_id, amount_minor, payment_reference, reason)
CROSS JOIN (SELECT coalesce(max(currency), 'XXX') AS currency FROM drops WHERE drop_id = $1) d
WHERE NOT EXISTS (
    SELECT FROM orders o WHERE o.reservation_id = t.reservation_id AND o.payment_reference = t.payment_reference
)
ORDER BY t.reservation_id, t.payment_reference, t.amount_minor DESC
ON CONFLICT (reservation_id, payment_reference) DO NOTHING
RETURNING refund_id

-- name: refunds_claim
-- Takes refunds whose time has come, the longest waiting first; nobody else is given them for $2 seconds.
-- Left alone: a payment that pays for its order, which somebody reported with two amounts. A person decides; what is settled
-- needs no more than to be noted.
-- $1 rows at most; $2 seconds.
UPDATE refunds SET next_attempt_at = now() + make_interval(secs => $2::float8)
WHERE refund_id = ANY(ARRAY(
    SELECT r.refund_id FROM refunds r
    WHERE r.state IN ('due', 'requested', 'settled') AND r.next_attempt_at <= now()
        AND NOT EXISTS (
            SELECT FROM orders o
            WHERE r.state <> 'settled'
                AND o.reservation_id = r.reservation_id AND o.state = 'paid' AND o.payment_reference = r.payment_reference
        )
    ORDER BY r.next_attempt_at
    LIMIT $1
    FOR UPDATE OF r SKIP LOCKED
))
RETURNING refund_id, reservation_id, drop_id, amount_minor, currency, payment_reference, reason, state, last_error

-- name: refund_request
-- Notes that a provider is about to be asked, so that whoever comes later knows that the outcome may be unknown.
-- One that is due although it was asked for before had failed, and a person sent it on: that is its next generation.
-- $1 refund id; $2 provider. Returns the attempts including this one, and the generation; no row when the refund is settled
-- or done by now.
UPDATE refunds SET
    generation = generation + CASE WHEN state = 'due' AND attempts > 0 THEN 1 ELSE 0 END,
    state = 'requested', provider = $2, attempts = attempts + 1
WHERE refund_id = $1 AND state IN ('due', 'requested')
RETURNING attempts, generation

-- name: refund_retry_later
-- The refund is not done; it is tried again in $2 seconds. $1 refund id; $3 why; $4 the provider's id for it, '' for none.
UPDATE refunds SET
    next_attempt_at = now() + make_interval(secs => $2::float8), last_error = $3,
    provider_refund_id = CASE WHEN $4 = '' THEN provider_refund_id ELSE $4 END
WHERE refund_id = $1 AND state IN ('due', 'requested')

-- name: refund_fail
-- The provider refused for good; a person decides. $1 refund id; $2 why.
UPDATE refunds SET state = 'failed', last_error = $2 WHERE refund_id = $1 AND state IN ('due', 'requested')

-- name: refund_done
-- The money went back: the refund is done, the order it paid for refunded, and whoever listens will be told. Repeated, it
-- changes nothing. $1 refund id; $2 the provider's id for it, '' for none. Returns the reservation id, else no row.
WITH done AS (
    UPDATE refunds SET
        state = 'done', finished_at = now(), last_error = '',
        provider_refund_id = CASE WHEN $2 = '' THEN provider_refund_id ELSE $2 END
    WHERE refund_id = $1 AND state <> 'done'
    RETURNING reservation_id, payment_reference
),
refunded AS (
    UPDATE orders o SET state = 'refunded', updated_at = now()
    FROM done d
    WHERE o.reservation_id = d.reservation_id AND o.state = 'refund_due' AND o.payment_reference = d.payment_reference
    RETURNING o.reservation_id, o.drop_id, o.amount_minor, o.currency
),
noted AS (
    INSERT INTO outbox (drop_id, reservation_id, event, payload)
    SELECT drop_id, reservation_id, 'order.refunded',
        jsonb_build_object('state', 'refunded', 'amount_minor', amount_minor, 'currency', currency)
    FROM refunded
)
SELECT reservation_id FROM done

-- name: refund_settle
-- The money went back, says a person or the provider; the reconciler does the rest. $1 refund id; $2 the provider's id for
-- it, '' for none. Returns the refund id; no row when there is none or it is done.
UPDATE refunds SET
    state = 'settled', next_attempt_at = now(), last_error = '',
    provider_refund_id = CASE WHEN $2 = '' THEN provider_refund_id ELSE $2 END
WHERE refund_id = $1 AND state <> 'done'
RETURNING refund_id

-- name: refund_release
-- A person has decided that a held or failed payment goes back, or that a due one is tried now. $1 refund id. Returns whether
-- the payment pays for a paid order, and then nothing is changed: refunds_claim would leave it alone. No row when there is
-- nothing to send.
WITH known AS (
    SELECT r.refund_id, EXISTS (
        SELECT FROM orders o
        WHERE o.reservation_id = r.reservation_id AND o.state = 'paid' AND o.payment_reference = r.payment_reference
    ) AS pays
    FROM refunds r
    WHERE r.refund_id = $1 AND r.state IN ('held', 'failed', 'due', 'requested')
),
sent AS (
    UPDATE refunds r SET state = CASE WHEN r.state = 'requested' THEN r.state ELSE 'due' END, next_attempt_at = now()
    FROM known k
    WHERE r.refund_id = k.refund_id AND NOT k.pays AND r.state IN ('held', 'failed', 'due', 'requested')
)
SELECT pays FROM known

-- name: refunds_of_payment
-- Refunds of a payment that are not done, at most 100. $1 payment reference.
SELECT refund_id, amount_minor FROM refunds WHERE payment_reference = $1 AND state <> 'done' ORDER BY refund_id LIMIT 100

-- name: refund_by_id
-- One refund. $1 refund id.
SELECT
    refund_id, reservation_id, drop_id, amount_minor, currency, payment_reference, reason, state, provider, provider_refund_id,
    attempts, last_error,
    (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms,
    (extract(epoch FROM finished_at) * 1000)::bigint AS finished_at_ms
FROM refunds WHERE refund_id = $1

-- name: refunds_open
-- Refunds that are not done, the oldest first; a held payment that pays for an order by now is left out.
-- $1 drop id, or null for all; $2 rows at most.
SELECT
    refund_id, reservation_id, drop_id, amount_minor, currency, payment_reference, reason, state, provider, provider_refund_id,
    attempts, last_error,
    (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms,
    (extract(epoch FROM finished_at) * 1000)::bigint AS finished_at_ms
FROM refunds r
WHERE state <> 'done' AND ($1::text IS NULL OR drop_id = $1)
    AND NOT (
        state = 'held'
        AND coalesce((SELECT o.payment_reference FROM orders o WHERE o.reservation_id = r.reservation_id) = r.payment_reference, false)
    )
ORDER BY created_at, refund_id
LIMIT $2

-- name: refunds_of_order
-- Every refund of a reservation's payments, by payment; at most 100. $1 reservation id.
SELECT
    refund_id, reservation_id, drop_id, amount_minor, currency, payment_reference, reason, state, provider, provider_refund_id,
    attempts, last_error,
    (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms,
    (extract(epoch FROM finished_at) * 1000)::bigint AS finished_at_ms
FROM refunds WHERE reservation_id = $1
ORDER BY payment_reference
LIMIT 100

-- name: refunds_backlog
-- Seconds the oldest refund has been waiting to be driven, 0 when none is; and how many wait for a person, counted to at most
-- 1000: those of refunds_open that are held or failed.
SELECT
    coalesce((
        SELECT extract(epoch FROM now() - min(created_at)) FROM refunds WHERE state IN ('due', 'requested', 'settled')
    ), 0)::float8 AS oldest_s,
    (SELECT count(*) FROM (
        SELECT FROM refunds r
        WHERE state IN ('held', 'failed') AND NOT (
            state = 'held' AND EXISTS (
                SELECT FROM orders o WHERE o.reservation_id = r.reservation_id AND o.payment_reference = r.payment_reference
            )
        )
        LIMIT 1000
    ) w)::integer AS for_people
