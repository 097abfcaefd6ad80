#!lua
-- Gives a drop to the store: its rules and its units. The first state is "scheduled"; time does the rest.
-- KEYS[1] drop hash: rules and counters
-- KEYS[2] stock hash: units, prices and limits of each SKU
-- ARGV[1] definition msgpack: {digest, definition (JSON text for people), rules (field to value), skus, draw}, each SKU
--         {sku, allotment, available, sold, price_minor, limit_per_shopper}; draw is {order, secret hex or "", groups}, each group
--         {id, share of the rate in thousandths}
-- RETURNS msgpack {outcome, epoch}
-- OUTCOMES opened replayed exists
-- COST O(SKUs)
-- INCLUDE arguments

local RULES = {
  "epoch", "joins_at_ms", "opens_at_ms", "closes_at_ms", "rate_per_min", "capacity", "claim_window_ms",
  "reservation_ttl_ms", "token_ttl_ms", "limit_per_shopper", "tickets_max", "reservations_per_shopper_max",
}

-- The dearest reservation, 10 SKUs of 1000 units, stays below 2^53: beyond it numbers lose bits.
local PRICE_MAX = 1e11
local GROUPS_MAX = 7

local definition = unpack_array(ARGV[1], 5, "definition")
local digest = text(definition[1], 64, "digest")
local json = text(definition[2], 262144, "definition")
local rules, skus = definition[3], definition[4]
if type(rules) ~= "table" or type(skus) ~= "table" or #skus == 0 or #skus > 50 then
  bad_argument("rules must be a map and skus an array of 1 to 50")
end

local draw, lines = definition[5] or {"arrival", "", {}}, {}
local order, secret = text(draw[1], 16, "order"), text_or_empty(draw[2], 64, "secret")
if order ~= "draw" and order ~= "arrival" then bad_argument("order must be draw or arrival") end
if order == "draw" and #secret ~= 64 then bad_argument("a draw needs a secret of 64 hex digits") end
if #draw[3] > GROUPS_MAX then bad_argument("groups must be at most " .. GROUPS_MAX) end
for i = 1, #draw[3] do
  lines[i] = {text(draw[3][i][1], 48, "group"), whole(draw[3][i][2], 0, 1000, "share"), 0, -1, 0, "", "", 0}
end
local fields, names, units, seen = {}, {}, {}, {}
for i = 1, #RULES do
  local n = #fields
  fields[n + 1], fields[n + 2] = RULES[i], string.format("%d", whole(rules[RULES[i]], 0, 2 ^ 53, RULES[i]))
end
for i = 1, #skus do
  local s, n = skus[i], #units
  local sku = text(s[1], 64, "sku")
  if seen[sku] then bad_argument("each SKU must be named once") end
  seen[sku] = true
  local allotment, available = whole(s[2], 1, 1e7, "allotment"), whole(s[3], 0, 1e7, "available")
  local sold = whole(s[4], 0, 1e7, "sold")
  if available + sold ~= allotment then bad_argument("allotment must be available + sold") end
  names[i] = sku
  units[n + 1], units[n + 2] = "allotment:" .. sku, allotment
  units[n + 3], units[n + 4] = "available:" .. sku, available
  units[n + 5], units[n + 6] = "reserved:" .. sku, 0
  units[n + 7], units[n + 8] = "sold:" .. sku, sold
  units[n + 9], units[n + 10] = "price:" .. sku, string.format("%d", whole(s[5], 0, PRICE_MAX, "price_minor"))
  units[n + 11], units[n + 12] = "limit:" .. sku, whole(s[6], 1, 1e7, "limit_per_shopper")
  units[n + 13], units[n + 14] = "draining:" .. sku, 0
end

local stored = redis.call("HMGET", KEYS[1], "digest", "epoch")
local units_there = redis.call("HLEN", KEYS[2])
if stored[1] then
  return cmsgpack.pack({stored[1] == digest and "replayed" or "exists", tonumber(stored[2])})
end
if units_there > 0 then return cmsgpack.pack({"exists", 0}) end

redis.call("HSET", KEYS[2], unpack(units))
redis.call("HSET", KEYS[1], "state", "scheduled", "state_at_ms", 0, "digest", digest, "definition", json, "skus",
  cmsgpack.pack(names), "joined", 0, "entries", "", "key", "", "notice", "", "serving_number", 0, "admitted", 0,
  "order", order, "draw_secret", secret, "lines", #lines > 0 and cmsgpack.pack(lines) or "", "root", "",
  "beat", 0, "credit", 0, "advanced_at_ms", 0, "sequence", 1, "fenced", "", "clock", rules.clock == "injected" and "injected" or "store",
  unpack(fields))
return cmsgpack.pack({"opened", rules.epoch})
