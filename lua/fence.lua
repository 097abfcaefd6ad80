#!lua flags=allow-oom
-- Closes a drop to every script until it has been recovered: this store has forgotten something, or is being mended.
-- KEYS[1] drop hash: rules
-- ARGV[1] fence msgpack: {epoch, sequence, reason}; fenced when the store is of an earlier epoch than the caller, and in the
--         same epoch when the sequence is 0 or the store has not come as far as it
-- RETURNS msgpack {outcome, epoch, sequence}
-- OUTCOMES fenced replayed refused missing
-- COST O(1)
-- INCLUDE arguments

local fence = unpack_array(ARGV[1], 3, "fence")
local epoch, seen = whole(fence[1], 1, 2 ^ 53, "epoch"), whole(fence[2], 0, 2 ^ 53, "sequence")
local reason = text(fence[3], 64, "reason")
local values = redis.call("HMGET", KEYS[1], "epoch", "sequence", "fenced")
local epoch_now, sequence = tonumber(values[1] or ""), tonumber(values[2] or "")
if not epoch_now then return cmsgpack.pack({"missing", 0, 0}) end

local word = "fenced"
if epoch < epoch_now or epoch == epoch_now and sequence and seen > 0 and seen <= sequence then word = "refused"
elseif values[3] and values[3] ~= "" then word = "replayed"
else redis.call("HSET", KEYS[1], "fenced", reason) end
return cmsgpack.pack({word, epoch_now, sequence or 0})
