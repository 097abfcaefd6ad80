#!lua
-- Puts right what an audit found, in the safe direction only: counters become what the reservation records say, live
-- reservations get their expiry back, and news that the journal has lost is told again. What was proven is the caller's
-- matter; that it still adds up is checked here.
-- KEYS[1] drop hash: rules
-- KEYS[2] stock hash: units
-- KEYS[3] reservations hash: reservation id to record
-- KEYS[4] expiries zset: live reservations by expiry
-- KEYS[5] adjustments hash: id of a repair to its record
-- KEYS[6] journal stream: what the reconciler reads
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] repair msgpack: {id, steps}; each step {"correct", sku, allotment, available, reserved, sold}, what is added to
--         each counter; {"tell", reservation_id}; {"expire", reservation_id}; or {"lower", sku, units}, by which Postgres'
--         allotment is above the store's
-- RETURNS msgpack {"done", now_ms, {outcome}, sequence}, or {"recovering", epoch, {}}
-- OUTCOMES repaired replayed refused recovering
-- COST O(SKUs + steps)
-- INCLUDE arguments drop ledger

local ADJUSTMENTS_MAX = 10000
local UNITS_MAX = 1e7
local ID_LENGTH_MAX = 63
local COUNTERS = {"allotment", "available", "reserved", "sold"}

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local repair = unpack_array(ARGV[2], 2, "repair")
-- With ":" and a SKU it is the id of a change of stock, which has 128 bytes.
local id, steps = text(repair[1], ID_LENGTH_MAX, "id"), repair[2]
if type(steps) ~= "table" or #steps == 0 or #steps > BATCH_MAX then
  bad_argument("steps must be an array of 1 to " .. BATCH_MAX .. " elements")
end
local ids = {}
for i = 1, #steps do
  local step = steps[i]
  if type(step) ~= "table" then bad_argument("step must be an array") end
  local word = step[1]
  if word == "correct" then
    text(step[2], 64, "sku")
    for j = 1, #COUNTERS do whole(step[j + 2], -UNITS_MAX, UNITS_MAX, COUNTERS[j]) end
  elseif word == "lower" then
    text(step[2], 64, "sku")
    whole(step[3], 1, UNITS_MAX, "units")
  elseif word == "tell" or word == "expire" then
    ids[#ids + 1] = text(step[2], 128, "reservation_id")
  else
    bad_argument("word must be correct, tell, expire or lower")
  end
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_records(KEYS[3], ids, ledger.reservations)
local made, adjustments = redis.call("HGET", KEYS[5], id), redis.call("HLEN", KEYS[5])
redis.call("ZCARD", KEYS[4])
redis.call("XLEN", KEYS[6])

local KINDS = {
  [STATE_RESERVED] = "reserved", [STATE_CONFIRMED] = "confirmed", [STATE_RELEASED] = "released",
  [STATE_EXPIRED] = "expired", [STATE_REFUND_DUE] = "refund_due", [STATE_CANCELLED] = "cancelled",
}
local ENDED = {[STATE_RELEASED] = true, [STATE_REFUND_DUE] = true, [STATE_CANCELLED] = true}
local allotments = {}

local function correct(stock, step)
  for j = 1, #COUNTERS do stock[COUNTERS[j]] = stock[COUNTERS[j]] + step[j + 2] end
  ledger.stock_changed[step[2]] = true
  local n = #allotments
  allotments[n + 1], allotments[n + 2] = "allotment:" .. step[2], stock.allotment
  return stock.available >= 0 and stock.reserved >= 0 and stock.sold >= 0
    and stock.allotment == stock.available + stock.reserved + stock.sold
end

local function apply(step)
  local word, name = step[1], step[2]
  if word == "correct" then
    return ledger.stock[name] and correct(ledger.stock[name], step)
  elseif word == "lower" then
    local stock = ledger.stock[name]
    if not stock then return false end
    local change = {id .. ":" .. name, name, -step[3], stock.allotment, drop.now, "repaired"}
    ledger.stock_changes[#ledger.stock_changes + 1] = change
    return true
  end
  local reservation = ledger.reservations[name]
  if not reservation then return true end
  local state = reservation[RESERVATION_STATE]
  if word == "tell" then
    record(ledger, KINDS[state], name, reservation, "", ENDED[state] and "repaired" or state == STATE_EXPIRED and "expired" or "")
  elseif state == STATE_RESERVED then
    local n = #ledger.expiries_add
    ledger.expiries_add[n + 1], ledger.expiries_add[n + 2] = reservation[RESERVATION_EXPIRES_AT_MS], name
  end
  return true
end

if made then return done(drop, {"replayed"}) end
if adjustments >= ADJUSTMENTS_MAX then return done(drop, {"refused"}) end
for i = 1, #steps do
  if not apply(steps[i]) then return done(drop, {"refused"}) end
end

redis.call("HSET", KEYS[5], id, cmsgpack.pack({"repair", 0, 0, drop.now}))
if #allotments > 0 then redis.call("HSET", KEYS[2], unpack(allotments)) end
ledger_write(ledger, {drop = KEYS[1], stock = KEYS[2], reservations = KEYS[3], expiries = KEYS[4], journal = KEYS[6]})
return done(drop, {"repaired"})
