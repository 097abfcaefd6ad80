-- API keys. Only the SHA-256 of a secret is here.

-- name: key_insert
-- $1 key id; $2 tenant; $3 secret hash; $4 scopes; $5 label; $6 expires at, ms since the epoch, or null. Returns created_at.
INSERT INTO api_keys (key_id, tenant, secret_hash, scopes, label, expires_at)
VALUES ($1, $2, $3, $4::text[], $5, to_timestamp($6::bigint::float8 / 1000))
RETURNING created_at

-- name: key_list
-- Keys of a tenant, the latest first, without the hash. $1 tenant, or null for all. At most 1000.
SELECT key_id, tenant, scopes, label, created_at, expires_at, revoked_at FROM api_keys
WHERE $1::text IS NULL OR tenant = $1
ORDER BY created_at DESC, key_id
LIMIT 1000

-- name: key_revoke
-- Ends a key at once; repeated, it keeps the first time. $1 key id. Returns revoked_at, or no row if there is no such key.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = $1 RETURNING revoked_at

-- name: keys_active
-- Every key that may be used now. Workers hold them in memory and look again every few seconds. At most 10000.
SELECT key_id, tenant, secret_hash, scopes, expires_at FROM api_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
LIMIT 10000
