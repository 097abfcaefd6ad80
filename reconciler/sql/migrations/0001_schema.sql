-- Drops, their allotments, the orders made from them, and what must happen because of an order.
--
-- Identifiers are COLLATE "C": they are ASCII, compared byte by byte (faster), and a drop's orders are one range of the
-- primary key, because every reservation id starts with its drop id. So neither the batches nor the pages of a drop need
-- a second index on orders, and the update from pending to paid touches no index at all.

CREATE FUNCTION order_rank(state text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE state
        WHEN 'pending' THEN 0 WHEN 'expired' THEN 1 WHEN 'cancelled' THEN 1
        WHEN 'paid' THEN 2 WHEN 'refund_due' THEN 3 WHEN 'refunded' THEN 4
    END;

COMMENT ON FUNCTION order_rank IS 'An order only moves to a state of higher rank, so late or repeated news changes nothing.';

CREATE TABLE drops (
    drop_id text COLLATE "C" PRIMARY KEY CONSTRAINT drops_id_form CHECK (drop_id ~ '^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$'),
    tenant text NOT NULL CONSTRAINT drops_tenant_given CHECK (tenant <> ''),
    name text NOT NULL,
    definition jsonb NOT NULL,
    currency text GENERATED ALWAYS AS (definition ->> 'currency') STORED NOT NULL
        CONSTRAINT drops_currency_form CHECK (currency ~ '^[A-Z]{3}$'),
    state text NOT NULL DEFAULT 'scheduled'
        CONSTRAINT drops_state_known CHECK (state IN ('scheduled', 'waiting', 'open', 'paused', 'closed')),
    state_at_ms bigint NOT NULL DEFAULT 0,
    epoch integer NOT NULL DEFAULT 0 CONSTRAINT drops_epoch_natural CHECK (epoch >= 0),
    opened_in_store boolean NOT NULL DEFAULT false,
    joins_at timestamptz NOT NULL,
    opens_at timestamptz NOT NULL,
    closes_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT drops_times_in_order CHECK (joins_at <= opens_at AND opens_at < closes_at),
    CONSTRAINT drops_opened_has_epoch CHECK (NOT opened_in_store OR epoch > 0)
);

COMMENT ON COLUMN drops.state IS 'The last state the journal told of; state_at_ms is when, so that older news is ignored.';
COMMENT ON COLUMN drops.opened_in_store IS 'Whether the store has been given this drop; the opener looks for those it has not.';

CREATE INDEX drops_by_tenant ON drops (tenant, opens_at, drop_id);
CREATE INDEX drops_to_open ON drops (opens_at) WHERE NOT opened_in_store;

CREATE TABLE drop_skus (
    drop_id text COLLATE "C" NOT NULL REFERENCES drops,
    sku text COLLATE "C" NOT NULL CONSTRAINT drop_skus_sku_form CHECK (sku ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    name text NOT NULL,
    allotment integer NOT NULL CONSTRAINT drop_skus_allotment_natural CHECK (allotment >= 0),
    sold integer NOT NULL DEFAULT 0,
    price_minor bigint NOT NULL CONSTRAINT drop_skus_price_natural CHECK (price_minor >= 0),
    limit_per_shopper integer NOT NULL CONSTRAINT drop_skus_limit_positive CHECK (limit_per_shopper > 0),
    PRIMARY KEY (drop_id, sku),
    CONSTRAINT drop_skus_sold_within_allotment CHECK (0 <= sold AND sold <= allotment)
) WITH (fillfactor = 50);

COMMENT ON COLUMN drop_skus.sold IS 'Units of orders with units_counted. The last word against selling a unit twice.';

CREATE TABLE orders (
    reservation_id text COLLATE "C" PRIMARY KEY,
    drop_id text COLLATE "C" NOT NULL,
    ticket_id text COLLATE "C" NOT NULL,
    queue_number bigint NOT NULL CONSTRAINT orders_queue_number_natural CHECK (queue_number >= 0),
    state text NOT NULL CONSTRAINT orders_state_known CHECK (order_rank(state) IS NOT NULL),
    units_counted boolean NOT NULL DEFAULT false,
    amount_minor bigint NOT NULL CONSTRAINT orders_amount_natural CHECK (amount_minor >= 0),
    currency text NOT NULL CONSTRAINT orders_currency_form CHECK (length(currency) = 3),
    payment_reference text CONSTRAINT orders_payment_reference_length CHECK (length(payment_reference) BETWEEN 1 AND 128),
    reserved_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    paid_at timestamptz,
    finished_at timestamptz,
    reason text NOT NULL DEFAULT '',
    request_id text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT orders_id_of_drop CHECK (starts_with(reservation_id, drop_id || '.r')),
    CONSTRAINT orders_expires_after_reserved CHECK (expires_at >= reserved_at),
    CONSTRAINT orders_payment_iff_paid
        CHECK ((order_rank(state) >= 2) = (payment_reference IS NOT NULL) AND (order_rank(state) >= 2) = (paid_at IS NOT NULL)),
    CONSTRAINT orders_finished_unless_pending CHECK ((state = 'pending') = (finished_at IS NULL)),
    CONSTRAINT orders_units_counted_when_paid
        CHECK (CASE state WHEN 'paid' THEN units_counted WHEN 'refund_due' THEN true WHEN 'refunded' THEN true ELSE NOT units_counted END),
    CONSTRAINT orders_refund_has_reason CHECK (order_rank(state) < 3 OR reason <> '')
) WITH (fillfactor = 80);

COMMENT ON TABLE orders IS 'One row per reservation the journal told of. fillfactor leaves room for pending to become paid in place.';
COMMENT ON COLUMN orders.units_counted IS 'Whether the units are in drop_skus.sold. A refund in progress keeps what it had until the units are given back.';
COMMENT ON COLUMN orders.payment_reference IS 'Not unique: one payment may cover two reservations, and refusing the second would lose an acknowledged order. The query duplicate_orders lists such payments.';
COMMENT ON COLUMN orders.paid_at IS 'When the payment was reported, also for payments that must be given back.';
COMMENT ON COLUMN orders.finished_at IS 'When the order stopped being pending.';
COMMENT ON COLUMN orders.recorded_at IS 'When the row was first written here; the journal may have waited for Postgres before.';

CREATE TABLE order_items (
    reservation_id text COLLATE "C" NOT NULL,
    drop_id text COLLATE "C" NOT NULL,
    sku text COLLATE "C" NOT NULL,
    quantity integer NOT NULL CONSTRAINT order_items_quantity_positive CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, sku),
    CONSTRAINT order_items_of_drop CHECK (starts_with(reservation_id, drop_id || '.r'))
);

-- References from orders and items are checked once per statement, not once per row: foreign keys cost more than all the
-- rest of a batch (40 000 orders a second with them, 70 000 with these, 110 000 unchecked, on two cores). The checks are
-- as strict for whoever inserts; they do not lock the row referred to, which nobody but the owner may delete or rename.

CREATE FUNCTION check_orders_have_drops() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE stranger text;
BEGIN
    SELECT drop_id INTO stranger FROM (SELECT DISTINCT drop_id FROM inserted) named
    WHERE NOT EXISTS (SELECT FROM drops WHERE drops.drop_id = named.drop_id);
    IF FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('order of unknown drop %s', stranger), CONSTRAINT = 'orders_have_drops', TABLE = 'orders';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION check_items_have_skus() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE stranger text;
BEGIN
    SELECT sku INTO stranger FROM (SELECT DISTINCT drop_id, sku FROM inserted) named
    WHERE NOT EXISTS (SELECT FROM drop_skus WHERE drop_skus.drop_id = named.drop_id AND drop_skus.sku = named.sku);
    IF FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('item of unknown SKU %s', stranger), CONSTRAINT = 'order_items_have_skus', TABLE = 'order_items';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION check_items_have_orders() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE stranger text;
BEGIN
    SELECT reservation_id INTO stranger FROM inserted
    WHERE NOT EXISTS (SELECT FROM orders WHERE orders.reservation_id = inserted.reservation_id);
    IF FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('item of unknown order %s', stranger), CONSTRAINT = 'order_items_have_orders', TABLE = 'order_items';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION check_deleted_is_unused() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE used boolean;
BEGIN
    CASE TG_TABLE_NAME
        WHEN 'drops' THEN
            SELECT EXISTS (SELECT FROM orders JOIN deleted ON orders.drop_id = deleted.drop_id) INTO used;
        WHEN 'drop_skus' THEN
            SELECT EXISTS (SELECT FROM order_items items JOIN deleted ON items.drop_id = deleted.drop_id AND items.sku = deleted.sku) INTO used;
        WHEN 'orders' THEN
            SELECT EXISTS (SELECT FROM order_items items JOIN deleted ON items.reservation_id = deleted.reservation_id) INTO used;
    END CASE;
    IF used THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('deleted rows of %s are still referred to', TG_TABLE_NAME), TABLE = TG_TABLE_NAME::text;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER orders_have_drops AFTER INSERT ON orders
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION check_orders_have_drops();
CREATE TRIGGER order_items_have_skus AFTER INSERT ON order_items
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION check_items_have_skus();
CREATE TRIGGER order_items_have_orders AFTER INSERT ON order_items
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION check_items_have_orders();
CREATE TRIGGER drops_deleted_unused AFTER DELETE ON drops
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION check_deleted_is_unused();
CREATE TRIGGER drop_skus_deleted_unused AFTER DELETE ON drop_skus
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION check_deleted_is_unused();
CREATE TRIGGER orders_deleted_unused AFTER DELETE ON orders
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION check_deleted_is_unused();

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 256) PRIMARY KEY,
    drop_id text COLLATE "C" NOT NULL,
    reservation_id text COLLATE "C" NOT NULL,
    event text NOT NULL CONSTRAINT outbox_event_known
        CHECK (event IN ('order.paid', 'order.cancelled', 'order.expired', 'order.refund_due', 'order.refunded')),
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz
);

COMMENT ON TABLE outbox IS 'What others are to be told, written in the transaction that made it true. At most one row per order and state.';

CREATE INDEX outbox_undelivered ON outbox (id) WHERE delivered_at IS NULL;

CREATE TABLE refunds (
    reservation_id text COLLATE "C" PRIMARY KEY REFERENCES orders,
    drop_id text COLLATE "C" NOT NULL,
    amount_minor bigint NOT NULL CONSTRAINT refunds_amount_natural CHECK (amount_minor >= 0),
    currency text NOT NULL,
    payment_reference text NOT NULL CONSTRAINT refunds_payment_given CHECK (payment_reference <> ''),
    reason text NOT NULL CONSTRAINT refunds_reason_given CHECK (reason <> ''),
    state text NOT NULL DEFAULT 'due' CONSTRAINT refunds_state_known CHECK (state IN ('due', 'done')),
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT refunds_finished_iff_done CHECK ((state = 'done') = (finished_at IS NOT NULL))
);

COMMENT ON TABLE refunds IS 'Payments that must be given back: durable work, one row per order that became refund_due.';

CREATE INDEX refunds_due ON refunds (created_at, reservation_id) WHERE state = 'due';

CREATE TABLE api_keys (
    key_id text COLLATE "C" PRIMARY KEY CONSTRAINT api_keys_id_given CHECK (key_id <> ''),
    tenant text NOT NULL CONSTRAINT api_keys_tenant_given CHECK (tenant <> ''),
    secret_hash bytea NOT NULL UNIQUE CONSTRAINT api_keys_hash_is_sha256 CHECK (octet_length(secret_hash) = 32),
    scopes text[] NOT NULL CONSTRAINT api_keys_scopes_given CHECK (cardinality(scopes) > 0),
    label text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT api_keys_expires_after_created CHECK (expires_at > created_at)
);

COMMENT ON COLUMN api_keys.secret_hash IS 'SHA-256 of a 256-bit random secret; the secret itself is shown once and never stored.';
