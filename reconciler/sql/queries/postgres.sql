-- Postgres about itself.

-- name: postgres_position
-- Which database this is, its timeline, and how many bytes of its log are on disk. An error on a standby.
SELECT
    (SELECT system_identifier FROM pg_control_system()) AS system,
    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer AS timeline,
    (pg_current_wal_flush_lsn() - '0/0')::bigint AS flushed
