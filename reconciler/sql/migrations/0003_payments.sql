-- Refunds as work that is driven until it is done: one row per payment that must go back, whether or not it belongs to an order.

-- ------------------------------------------------------------------------------------------------------------ orders

ALTER TABLE orders
    ADD COLUMN units_returned boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT orders_units_returned_once CHECK (NOT units_returned OR (order_rank(state) >= 3 AND NOT units_counted));

-- A row is eight bytes longer; a quarter of a page's orders can still be updated in place.
ALTER TABLE orders SET (fillfactor = 75);

COMMENT ON COLUMN orders.units_counted IS 'Whether the units are in drop_skus.sold.';
COMMENT ON COLUMN orders.units_returned IS 'The units were in drop_skus.sold and were taken out again when the order became refund_due. Set by the statement that does so, which can then tell exactly whose units to subtract.';

-- ----------------------------------------------------------------------------------------------------------- refunds

-- The same payment of the same reservation always has the same id, even after a loss here: it is the idempotency key that
-- keeps a provider from giving money back twice.
CREATE FUNCTION refund_id_of(reservation_id text, payment_reference text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'rf_' || left(encode(sha256(convert_to(reservation_id || ' ' || payment_reference, 'UTF8')), 'hex'), 32);

ALTER TABLE refunds
    DROP CONSTRAINT refunds_pkey,
    DROP CONSTRAINT refunds_reservation_id_fkey,
    DROP CONSTRAINT refunds_state_known,
    ADD PRIMARY KEY (reservation_id, payment_reference),
    ADD COLUMN refund_id text COLLATE "C" NOT NULL GENERATED ALWAYS AS (refund_id_of(reservation_id, payment_reference)) STORED
        CONSTRAINT refunds_refund_id_key UNIQUE,
    ADD COLUMN provider text NOT NULL DEFAULT '',
    ADD COLUMN provider_refund_id text NOT NULL DEFAULT '',
    ADD COLUMN attempts integer NOT NULL DEFAULT 0 CONSTRAINT refunds_attempts_natural CHECK (attempts >= 0),
    ADD COLUMN next_attempt_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN last_error text NOT NULL DEFAULT '',
    ADD CONSTRAINT refunds_state_known CHECK (state IN ('held', 'due', 'requested', 'settled', 'failed', 'done'));

COMMENT ON TABLE refunds IS 'Payments that must be given back: durable work, one row per payment. Not every row has an order: a second payment, or one for a reservation nobody knows, pays for none.';
COMMENT ON COLUMN refunds.state IS 'held: a person decides. due: to be given back. requested: the provider was asked and the outcome is not known yet. settled: given back, the order is to follow. failed: the provider refused; a person decides. done.';
COMMENT ON COLUMN refunds.provider IS 'Who was asked last; for a held payment, who reported it.';
COMMENT ON COLUMN refunds.next_attempt_at IS 'Not before then; while somebody works on the row, when another may take over.';

DROP INDEX refunds_due;
CREATE INDEX refunds_to_do ON refunds (next_attempt_at) WHERE state IN ('due', 'requested', 'settled');
CREATE INDEX refunds_open ON refunds (created_at, refund_id) WHERE state <> 'done';
CREATE INDEX refunds_of_payment ON refunds (payment_reference) WHERE state <> 'done';

-- -------------------------------------------------------------------------------------------------------- permissions

DO $$
DECLARE
    permission text;
    grantee text;
BEGIN
    REVOKE ALL ON FUNCTION refund_id_of FROM PUBLIC;
    FOREACH permission IN ARRAY ARRAY[
        'EXECUTE ON FUNCTION refund_id_of TO flashsale_service',
        'EXECUTE ON FUNCTION refund_id_of TO flashsale_reconciler',
        -- Workers keep payments that match nothing and hear of refunds; people settle and release them.
        'INSERT (reservation_id, drop_id, amount_minor, currency, payment_reference, reason, state, provider),'
            ' UPDATE (state, provider_refund_id, next_attempt_at, last_error) ON refunds TO flashsale_service',
        'UPDATE (expires_at, units_returned) ON orders TO flashsale_reconciler',
        'UPDATE (amount_minor, currency, reason, provider, provider_refund_id, attempts, next_attempt_at, last_error)'
            ' ON refunds TO flashsale_reconciler'
    ] LOOP
        grantee := substring(permission FROM ' TO (\w+)$');
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = grantee);
        EXECUTE 'GRANT ' || permission;
    END LOOP;
END $$;
