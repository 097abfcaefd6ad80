#!lua
-- Gives a live reservation more time, once.
-- KEYS[1] drop hash: rules
-- KEYS[2] stock hash: units
-- KEYS[3] tickets hash: ticket id to record
-- KEYS[4] reservations hash: reservation id to record
-- KEYS[5] expiries zset: live reservations by expiry
-- KEYS[6] slots zset: queue numbers that count as active
-- KEYS[7] stats hash: totals for people
-- KEYS[8] journal stream: what the reconciler reads
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] requests msgpack: array of {reservation_id, extend_key, request_id, extension_ms}
-- RETURNS msgpack {"done", now_ms, results, sequence}, each {outcome, state, amount_minor, reserved_at_ms, expires_at_ms, number}
--         or {"not_found", 0}; or {"recovering", epoch, {}}
-- OUTCOMES extended replayed already_extended ended not_found recovering
-- COST O(requests)
-- INCLUDE arguments drop ledger

local EXTENSION_MAX_MS = 24 * 3600 * 1000

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local ids = {}
for i = 1, #requests do
  ids[i] = text(requests[i][1], 128, "reservation_id")
  text(requests[i][2], 128, "extend_key")
  text_or_empty(requests[i][3], 128, "request_id")
  whole(requests[i][4], 1, EXTENSION_MAX_MS, "extension_ms")
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_reservations(ledger, KEYS[4], KEYS[3], ids)
check_types(KEYS[5], KEYS[6], KEYS[7], KEYS[8])

local function extend(id, reservation, request)
  local expires_at_ms, n = reservation[RESERVATION_EXPIRES_AT_MS] + request[4], #ledger.expiries_add
  reservation[RESERVATION_EXPIRES_AT_MS], reservation[RESERVATION_EXTEND_KEY] = expires_at_ms, request[2]
  ledger.reservations_changed[id] = true
  ledger.expiries_add[n + 1], ledger.expiries_add[n + 2] = expires_at_ms, id
  ledger.slots_add[n + 1], ledger.slots_add[n + 2] = expires_at_ms, reservation[RESERVATION_NUMBER]
  record(ledger, "extended", id, reservation, request[3], "")
end

local results = {}
for i = 1, #requests do
  local request, id = requests[i], ids[i]
  local reservation = ledger.reservations[id]
  if not reservation then
    results[i] = {"not_found", 0}
  else
    local word = "extended"
    local extended_by = reservation[RESERVATION_EXTEND_KEY] or ""
    if extended_by == request[2] then
      word = "replayed"
    elseif reservation[RESERVATION_STATE] ~= STATE_RESERVED or drop.now >= reservation[RESERVATION_EXPIRES_AT_MS] then
      word = "ended"
    elseif extended_by ~= "" then
      word = "already_extended"
    else
      extend(id, reservation, request)
    end
    results[i] = answer(word, reservation)
  end
end

ledger_write(ledger, {
  drop = KEYS[1], stock = KEYS[2], tickets = KEYS[3], reservations = KEYS[4], expiries = KEYS[5], slots = KEYS[6],
  stats = KEYS[7], journal = KEYS[8],
})
return done(drop, results)
