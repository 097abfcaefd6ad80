-- What is remembered of a store, for the day on which it has forgotten.

CREATE TABLE journal_marks (
    drop_id text COLLATE "C" NOT NULL REFERENCES drops,
    lane smallint NOT NULL CONSTRAINT journal_marks_lane_small CHECK (lane BETWEEN 0 AND 63),
    sequence bigint NOT NULL CONSTRAINT journal_marks_sequence_natural CHECK (sequence >= 0),
    PRIMARY KEY (drop_id, lane)
) WITH (fillfactor = 50);

COMMENT ON TABLE journal_marks IS
    'How far a drop''s count of changes had come when a batch was recorded; the highest of all lanes counts. A store that has not come as far has gone back in time.';
COMMENT ON COLUMN journal_marks.lane IS
    'Batches that are recorded side by side write different rows, so that none waits for the commit of another.';

ALTER TABLE drops ADD COLUMN picture jsonb;

COMMENT ON COLUMN drops.picture IS 'The drop in the store as the reconciler last saw it: line, rules and units. Recovery begins from it when the store has nothing.';

DO $$
DECLARE
    permission text;
    grantee text;
BEGIN
    REVOKE ALL ON journal_marks FROM PUBLIC;
    FOREACH permission IN ARRAY ARRAY[
        'SELECT ON journal_marks TO flashsale_service',
        'SELECT, INSERT, UPDATE ON journal_marks TO flashsale_reconciler',
        'UPDATE (picture) ON drops TO flashsale_reconciler',
        'SELECT ON journal_marks TO flashsale_read'
    ] LOOP
        grantee := substring(permission FROM ' TO (\w+)$');
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = grantee);
        EXECUTE 'GRANT ' || permission;
    END LOOP;
END $$;
