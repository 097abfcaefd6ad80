-- A refund that a person sends on after the provider refused it is a new request: the old one's key would tell the old refusal.

ALTER TABLE refunds
    ADD COLUMN generation integer NOT NULL DEFAULT 0 CONSTRAINT refunds_generation_natural CHECK (generation >= 0);

COMMENT ON COLUMN refunds.generation IS 'How often it was asked for anew after a refusal, because a person sent it on. The provider is asked with a key of its own each time, and only when none of the earlier ones lives.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'flashsale_reconciler') THEN
        GRANT UPDATE (generation) ON refunds TO flashsale_reconciler;
    END IF;
END $$;
