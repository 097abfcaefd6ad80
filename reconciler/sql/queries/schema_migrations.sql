-- The record of applied migrations, kept by reconciler/migrations.py.

-- name: schema_migrations_lock
-- Waits until no other process migrates this database. $1 lock key. Held until the connection ends.
SELECT pg_advisory_lock($1)

-- name: schema_migrations_create
-- The table itself.
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: schema_migrations_exists
-- Whether any migration can have been applied.
SELECT to_regclass('schema_migrations') IS NOT NULL

-- name: schema_migrations_list
-- What was applied, in order.
SELECT name, checksum FROM schema_migrations ORDER BY name

-- name: schema_migrations_insert
-- $1 file name; $2 checksum.
INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)
