-- Units added to and withdrawn from a drop while it is on, and what the auditor last found.

CREATE TABLE stock_changes (
    drop_id text COLLATE "C" NOT NULL,
    change_id text COLLATE "C" NOT NULL CONSTRAINT stock_changes_id_length CHECK (length(change_id) BETWEEN 1 AND 128),
    sku text COLLATE "C" NOT NULL,
    delta integer NOT NULL,
    reason text NOT NULL CONSTRAINT stock_changes_reason_given CHECK (reason <> ''),
    state text NOT NULL CONSTRAINT stock_changes_state_known CHECK (state IN ('given', 'told', 'refused')),
    at timestamptz NOT NULL,
    PRIMARY KEY (drop_id, change_id),
    FOREIGN KEY (drop_id, sku) REFERENCES drop_skus
);

COMMENT ON TABLE stock_changes IS 'Each change of an allotment, once per change_id.';
COMMENT ON COLUMN stock_changes.state IS
    'given: in drop_skus.allotment, the store has yet to answer; told: the store has it too; refused: the store would not, and it is taken back.';

CREATE INDEX stock_changes_given ON stock_changes (at) WHERE state = 'given';
CREATE INDEX stock_changes_by_time ON stock_changes (drop_id, at, change_id);

CREATE TABLE audits (
    drop_id text COLLATE "C" PRIMARY KEY REFERENCES drops,
    audited_at timestamptz NOT NULL,
    result text NOT NULL CONSTRAINT audits_result_known CHECK (result IN ('clean', 'drift', 'unfinished')),
    findings jsonb NOT NULL,
    paused_at timestamptz
);

COMMENT ON TABLE audits IS 'The last audit of each drop.';
COMMENT ON COLUMN audits.paused_at IS 'When the auditor paused the drop for drift that is still there.';

DO $$
DECLARE
    permission text;
    grantee text;
BEGIN
    REVOKE ALL ON stock_changes, audits FROM PUBLIC;
    FOREACH permission IN ARRAY ARRAY[
        'SELECT, INSERT, UPDATE ON stock_changes TO flashsale_service',
        'UPDATE (allotment) ON drop_skus TO flashsale_service',
        'SELECT ON audits TO flashsale_service',
        'SELECT, INSERT, UPDATE ON stock_changes TO flashsale_reconciler',
        'UPDATE (allotment) ON drop_skus TO flashsale_reconciler',
        'SELECT, INSERT, UPDATE ON audits TO flashsale_reconciler',
        'SELECT ON stock_changes, audits TO flashsale_read'
    ] LOOP
        grantee := substring(permission FROM ' TO (\w+)$');
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = grantee);
        EXECUTE 'GRANT ' || permission;
    END LOOP;
END $$;
