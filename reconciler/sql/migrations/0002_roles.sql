-- Three group roles with the least each needs. Grant one to the login of each process:
--   flashsale_service     API workers and the command line: read all, define drops and API keys; never write an order
--   flashsale_reconciler  writes orders and what follows from them; never deletes
--   flashsale_read        reports
--
-- Roles belong to the whole cluster, so another database may have made them, or be making them right now. Where the
-- migrating user may not create roles (managed Postgres) they are skipped with a notice; create them there by hand and
-- run the statements of this file's second half.

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['flashsale_service', 'flashsale_reconciler', 'flashsale_read'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = wanted);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'role % was not created: % may not create roles', wanted, current_user;
        END;
    END LOOP;
END $$;

DO $$
DECLARE
    place text := current_schema();
    permission text;
    grantee text;
BEGIN
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', place);
    REVOKE ALL ON drops, drop_skus, orders, order_items, outbox, refunds, api_keys, schema_migrations FROM PUBLIC;
    REVOKE ALL ON FUNCTION order_rank, check_orders_have_drops, check_items_have_skus, check_items_have_orders,
        check_deleted_is_unused FROM PUBLIC;

    FOREACH permission IN ARRAY ARRAY[
        format('USAGE ON SCHEMA %I TO flashsale_service', place),
        format('USAGE ON SCHEMA %I TO flashsale_reconciler', place),
        format('USAGE ON SCHEMA %I TO flashsale_read', place),
        'EXECUTE ON FUNCTION order_rank TO flashsale_service',
        'EXECUTE ON FUNCTION order_rank TO flashsale_reconciler',
        'EXECUTE ON FUNCTION order_rank TO flashsale_read',

        'SELECT ON drops, drop_skus, orders, order_items, outbox, refunds, api_keys, schema_migrations TO flashsale_service',
        'INSERT ON drops, api_keys TO flashsale_service',
        'INSERT (drop_id, sku, name, allotment, price_minor, limit_per_shopper) ON drop_skus TO flashsale_service',
        'UPDATE (name, definition, epoch, opened_in_store, joins_at, opens_at, closes_at) ON drops TO flashsale_service',
        'UPDATE (label, expires_at, revoked_at) ON api_keys TO flashsale_service',

        'SELECT ON drops, drop_skus, orders, order_items, outbox, refunds, schema_migrations TO flashsale_reconciler',
        'UPDATE (state, state_at_ms, epoch, opened_in_store) ON drops TO flashsale_reconciler',
        'UPDATE (sold) ON drop_skus TO flashsale_reconciler',
        'INSERT (reservation_id, drop_id, ticket_id, queue_number, state, units_counted, amount_minor, currency,'
            ' payment_reference, reserved_at, expires_at, paid_at, finished_at, reason, request_id)'
            ' ON orders TO flashsale_reconciler',
        'UPDATE (state, units_counted, payment_reference, paid_at, finished_at, reason, request_id, updated_at)'
            ' ON orders TO flashsale_reconciler',
        'INSERT ON order_items TO flashsale_reconciler',
        'INSERT (drop_id, reservation_id, event, payload), UPDATE (delivered_at) ON outbox TO flashsale_reconciler',
        'INSERT (reservation_id, drop_id, amount_minor, currency, payment_reference, reason),'
            ' UPDATE (state, finished_at) ON refunds TO flashsale_reconciler',

        'SELECT ON drops, drop_skus, orders, order_items, outbox, refunds, schema_migrations TO flashsale_read',
        'SELECT (key_id, tenant, scopes, label, created_at, expires_at, revoked_at) ON api_keys TO flashsale_read'
    ] LOOP
        grantee := substring(permission FROM ' TO (\w+)$');
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = grantee);
        EXECUTE 'GRANT ' || permission;
    END LOOP;
END $$;
