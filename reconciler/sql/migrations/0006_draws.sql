-- The draw of a drop: its secret from the day the drop is made, and what was drawn.

CREATE TABLE draws (
    drop_id text COLLATE "C" PRIMARY KEY REFERENCES drops,
    secret bytea NOT NULL CONSTRAINT draws_secret_32_bytes CHECK (octet_length(secret) = 32),
    drawn jsonb
);

COMMENT ON TABLE draws IS 'Drops whose line is drawn by lot.';
COMMENT ON COLUMN draws.secret IS 'Its SHA-256 is published with the drop; the secret itself with the draw, and never before.';
COMMENT ON COLUMN draws.drawn IS 'What the store drew: time in ms, lines (group, entries, root, key), beacon. Null before.';

DO $$
DECLARE
    permission text;
    grantee text;
BEGIN
    REVOKE ALL ON draws FROM PUBLIC;
    FOREACH permission IN ARRAY ARRAY[
        'SELECT, INSERT ON draws TO flashsale_service',
        'SELECT ON draws TO flashsale_reconciler',
        'UPDATE (drawn) ON draws TO flashsale_reconciler'
    ] LOOP
        grantee := substring(permission FROM ' TO (\w+)$');
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = grantee);
        EXECUTE 'GRANT ' || permission;
    END LOOP;
END $$;
