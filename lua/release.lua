#!lua flags=allow-oom
-- Gives reservations back; the units are on sale again at once. A paid one only where the caller may cancel orders: then
-- its money goes back as well.
-- KEYS[1] drop hash: rules
-- KEYS[2] stock hash: units
-- KEYS[3] tickets hash: ticket id to record
-- KEYS[4] reservations hash: reservation id to record
-- KEYS[5] expiries zset: live reservations by expiry
-- KEYS[6] slots zset: queue numbers that count as active
-- KEYS[7] stats hash: totals for people
-- KEYS[8] journal stream: what the reconciler reads
-- KEYS[9] flow hash: how the line has moved
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] requests msgpack: array of {reservation_id, request_id, reason, paid_too (0 or 1)}
-- RETURNS msgpack {"done", now_ms, results, sequence}, each {outcome, state, amount_minor, reserved_at_ms, expires_at_ms, number} or
--         {"not_found", 0}; or {"recovering", epoch, {}}
-- OUTCOMES released cancelled replayed expired confirmed not_found recovering
-- COST O(requests)
-- INCLUDE arguments drop ledger flow

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local ids = {}
for i = 1, #requests do
  ids[i] = text(requests[i][1], 128, "reservation_id")
  text_or_empty(requests[i][2], 128, "request_id")
  text(requests[i][3], 64, "reason")
  whole(requests[i][4], 0, 1, "paid_too")
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_reservations(ledger, KEYS[4], KEYS[3], ids)
check_types(KEYS[5], KEYS[6], KEYS[7], KEYS[8])
redis.call("HLEN", KEYS[9])

local WORDS = {
  [STATE_CONFIRMED] = "confirmed", [STATE_RELEASED] = "replayed", [STATE_EXPIRED] = "expired",
  [STATE_REFUND_DUE] = "expired", [STATE_CANCELLED] = "replayed",
}

local results, passed_ms = {}, {}
for i = 1, #requests do
  local id = ids[i]
  local reservation = ledger.reservations[id]
  if not reservation then
    results[i] = {"not_found", 0}
  else
    local word = WORDS[reservation[RESERVATION_STATE]]
    if word == "confirmed" and requests[i][4] == 1 then
      word = "cancelled"
      take_back(ledger, id, reservation)
      record(ledger, "cancelled", id, reservation, requests[i][2], requests[i][3])
    elseif not word then
      word = "released"
      passed_ms[#passed_ms + 1] = drop.now - reservation[RESERVATION_RESERVED_AT_MS]
      give_back(ledger, id, reservation, STATE_RELEASED)
      record(ledger, "released", id, reservation, requests[i][2], requests[i][3])
    end
    results[i] = answer(word, reservation)
  end
end

ledger_write(ledger, {
  drop = KEYS[1], stock = KEYS[2], tickets = KEYS[3], reservations = KEYS[4], expiries = KEYS[5], slots = KEYS[6],
  stats = KEYS[7], journal = KEYS[8],
})
flow_parts(KEYS[9], "freed", passed_ms, drop.reservation_ttl_ms)
return done(drop, results)
