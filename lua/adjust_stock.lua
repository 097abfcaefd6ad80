#!lua flags=allow-oom
-- A merchant adds units to a SKU, or withdraws them. Units that somebody has reserved are not taken from them: withdrawing
-- more than is free is refused, or by choice drained, which withdraws the rest as reservations end unpaid.
-- KEYS[1] drop hash: rules
-- KEYS[2] stock hash: units
-- KEYS[3] adjustments hash: id of an adjustment to its record
-- KEYS[4] journal stream: what the reconciler reads
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] adjustment msgpack: {id, sku, delta, drain (0 or 1)}
-- RETURNS msgpack {"done", now_ms, {outcome, allotment, available, reserved, sold, draining}, sequence}, or
--         {"done", now_ms, {"unknown_sku"}, sequence}; or {"recovering", epoch, {}}
-- OUTCOMES adjusted draining replayed key_reused too_few too_many closed unknown_sku recovering
-- COST O(SKUs)
-- INCLUDE arguments drop ledger

local ADJUSTMENTS_MAX = 10000
local ALLOTMENT_MAX = 1e7
local DRAIN_FORGOTTEN = 2

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local adjustment = unpack_array(ARGV[2], 4, "adjustment")
local id, sku = text(adjustment[1], 128, "id"), text(adjustment[2], 64, "sku")
local delta, drains = whole(adjustment[3], -ALLOTMENT_MAX, ALLOTMENT_MAX, "delta"), whole(adjustment[4], 0, 1, "drain") == 1
if delta == 0 then bad_argument("delta must not be 0") end
if id:sub(1, 6) == "drain:" then bad_argument("id must not begin with drain:, as those of drained units do") end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
local made = redis.call("HGET", KEYS[3], id)
local adjustments = redis.call("HLEN", KEYS[3])
redis.call("XLEN", KEYS[4])

local stock = ledger.stock[sku]
local function finish(word)
  return done(drop, {word, stock.allotment, stock.available, stock.reserved, stock.sold, stock.draining})
end

-- Of an adjustment from before a recovery nobody knows how much was to be withdrawn as it ends, only what left at once.
local function is_the_same(record)
  if record[1] ~= sku then return false end
  if record[3] == DRAIN_FORGOTTEN and drains and delta < record[2] and record[2] <= 0 then return true end
  return record[2] == delta and (record[3] == DRAIN_FORGOTTEN or (record[3] == 1) == drains)
end

if not stock then return done(drop, {"unknown_sku"}) end
if made then return finish(is_the_same(cmsgpack.unpack(made)) and "replayed" or "key_reused") end
if drop.effective == "closed" then return finish("closed") end
if adjustments >= ADJUSTMENTS_MAX or stock.allotment + delta > ALLOTMENT_MAX then return finish("too_many") end

local word = "adjusted"
if delta > 0 then
  stock.available = stock.available + delta
  record_stock_change(ledger, id, sku, delta, "added")
elseif -delta <= stock.available then
  stock.available = stock.available + delta
  record_stock_change(ledger, id, sku, delta, "withdrawn")
elseif drains and -delta <= stock.available + stock.reserved - stock.draining then
  local free = stock.available
  stock.available, stock.draining = 0, stock.draining - delta - free
  record_stock_change(ledger, id, sku, -free, "withdrawn")
  word = "draining"
else
  return finish("too_few")
end

redis.call("HSET", KEYS[3], id, cmsgpack.pack({sku, delta, drains and 1 or 0, drop.now}))
ledger_write(ledger, {drop = KEYS[1], stock = KEYS[2], journal = KEYS[4]})
return finish(word)
