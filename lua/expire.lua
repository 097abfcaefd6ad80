#!lua flags=allow-oom
-- Ends overdue reservations; their units are on sale again at once. Running it twice, or in two places, is harmless.
-- KEYS[1] drop hash: rules
-- KEYS[2] stock hash: units
-- KEYS[3] tickets hash: ticket id to record
-- KEYS[4] reservations hash: reservation id to record
-- KEYS[5] expiries zset: live reservations by expiry
-- KEYS[6] slots zset: queue numbers that count as active
-- KEYS[7] stats hash: totals for people
-- KEYS[8] journal stream: what the reconciler reads
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] batch_size_max integer: reservations ended by this call at most, 1 to 1000
-- RETURNS msgpack {"done", now_ms, {"expired", ended}, sequence}, or {"recovering", epoch, {}}
-- OUTCOMES expired recovering
-- COST O(reservations ended)
-- INCLUDE arguments drop ledger

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local batch_size_max = whole(tonumber(ARGV[2]), 1, 1000, "batch_size_max")
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
local ids = redis.call("ZRANGEBYSCORE", KEYS[5], "-inf", drop.now, "LIMIT", 0, batch_size_max)
read_reservations(ledger, KEYS[4], KEYS[3], ids)
check_types(KEYS[5], KEYS[6], KEYS[7], KEYS[8])

local ended = 0
for i = 1, #ids do
  local id = ids[i]
  local reservation = ledger.reservations[id]
  if reservation and reservation[RESERVATION_STATE] == STATE_RESERVED then
    give_back(ledger, id, reservation, STATE_EXPIRED)
    record(ledger, "expired", id, reservation, "", "expired")
    for j = 1, #reservation[RESERVATION_ITEMS] do
      count(ledger, "expired_units", reservation[RESERVATION_ITEMS][j][2])
    end
    ended = ended + 1
  else
    ledger.expiries_remove[#ledger.expiries_remove + 1] = id
  end
end

ledger_write(ledger, {
  drop = KEYS[1], stock = KEYS[2], tickets = KEYS[3], reservations = KEYS[4], expiries = KEYS[5], slots = KEYS[6],
  stats = KEYS[7], journal = KEYS[8],
})
return done(drop, {"expired", ended})
