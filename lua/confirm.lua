#!lua flags=allow-oom
-- A reservation is paid: its units are sold. Exactly one of confirm and expire wins, by the state found here.
-- Paid after the reservation ended: the units are taken again if they are free, otherwise the money goes back. So does
-- a second payment, and one of another amount that a provider reports.
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
-- ARGV[2] requests msgpack: array of {reservation_id, payment_reference, amount_minor, request_id, confirm_key}; the
--         key is the caller's Idempotency-Key, empty for a webhook
-- RETURNS msgpack {"done", now_ms, results, sequence}, each {outcome, state, amount_minor, reserved_at_ms, expires_at_ms, number} or
--         {"not_found", 0}; or {"recovering", epoch, {}}
-- OUTCOMES confirmed replayed key_reused payment_conflict amount_mismatch refund_due not_found recovering
-- COST O(requests)
-- INCLUDE arguments drop ledger flow

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local ids = {}
for i = 1, #requests do
  ids[i] = text(requests[i][1], 128, "reservation_id")
  text(requests[i][2], 128, "payment_reference")
  whole(requests[i][3], 0, 2 ^ 53, "amount_minor")
  text_or_empty(requests[i][4], 128, "request_id")
  text_or_empty(requests[i][5], 128, "confirm_key")
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_reservations(ledger, KEYS[4], KEYS[3], ids)
check_types(KEYS[5], KEYS[6], KEYS[7], KEYS[8])
redis.call("HLEN", KEYS[9])

local SURPLUS_REMEMBERED_MAX = 16
local passed_ms = {}

local function sell(id, reservation, request)
  reservation[RESERVATION_STATE] = STATE_CONFIRMED
  reservation[RESERVATION_PAYMENT_REFERENCE], reservation[RESERVATION_CONFIRM_KEY] = request[2], request[5]
  passed_ms[#passed_ms + 1] = drop.now - reservation[RESERVATION_RESERVED_AT_MS]
  move_units(ledger, reservation[RESERVATION_ITEMS], "reserved", "sold")
  ledger.reservations_changed[id] = true
  ledger.expiries_remove[#ledger.expiries_remove + 1] = id
  local ticket_id = reservation[RESERVATION_TICKET_ID]
  local ticket = ledger.tickets[ticket_id]
  if ticket then finish_slot(ledger, ticket_id, ticket) end
  record(ledger, "confirmed", id, reservation, request[4], "")
  return answer("confirmed", reservation)
end

-- True when every unit of an ended reservation is still free and within the shopper's limits.
local function can_take_again(reservation, ticket)
  local items, units = reservation[RESERVATION_ITEMS], 0
  for i = 1, #items do
    local sku, quantity = items[i][1], items[i][2]
    local stock = ledger.stock[sku]
    if stock.available < quantity then return false end
    if ticket and (ticket[TICKET_HELD][sku] or 0) + quantity > stock.limit then return false end
    units = units + quantity
  end
  return not ticket or ticket[TICKET_UNITS] + units <= drop.limit_per_shopper
end

local function settle_late(id, reservation, request)
  local ticket = ledger.tickets[reservation[RESERVATION_TICKET_ID]]
  if can_take_again(reservation, ticket) then
    move_units(ledger, reservation[RESERVATION_ITEMS], "available", "reserved")
    if ticket then
      hold_units(ticket, reservation[RESERVATION_ITEMS], 1)
      ticket[TICKET_LIVE] = ticket[TICKET_LIVE] + 1
    end
    count(ledger, "late_payments_honoured", 1)
    return sell(id, reservation, request)
  end
  reservation[RESERVATION_STATE] = STATE_REFUND_DUE
  reservation[RESERVATION_PAYMENT_REFERENCE], reservation[RESERVATION_CONFIRM_KEY] = request[2], request[5]
  ledger.reservations_changed[id] = true
  record(ledger, "refund_due", id, reservation, request[4], "paid_after_expiry")
  count(ledger, "late_payments_refused", 1)
  return answer("refund_due", reservation)
end

local function is_surplus(reservation, payment_reference)
  local surplus = reservation[RESERVATION_SURPLUS]
  for i = 1, surplus and #surplus or 0 do
    if surplus[i] == payment_reference then return true end
  end
  return false
end

-- Money that came although nothing is to be paid with it goes back, and is on record until it has.
local function note_surplus(id, reservation, request, reason)
  if is_surplus(reservation, request[2]) then return end
  local surplus = reservation[RESERVATION_SURPLUS] or {}
  if #surplus < SURPLUS_REMEMBERED_MAX then
    surplus[#surplus + 1] = request[2]
    reservation[RESERVATION_EXTEND_KEY] = reservation[RESERVATION_EXTEND_KEY] or ""
    reservation[RESERVATION_SURPLUS] = surplus
    ledger.reservations_changed[id] = true
  end
  record(ledger, "surplus", id, reservation, request[4], reason)
  local transition = ledger.transitions[#ledger.transitions]
  transition[TRANSITION_AMOUNT_MINOR], transition[TRANSITION_PAYMENT_REFERENCE] = request[3], request[2]
end

-- What to say of a payment for a reservation that has one already.
local function settle_again(id, reservation, request)
  local same_payment = reservation[RESERVATION_PAYMENT_REFERENCE] == request[2]
  local same_body = same_payment and reservation[RESERVATION_AMOUNT_MINOR] == request[3]
  if request[5] ~= "" and request[5] == reservation[RESERVATION_CONFIRM_KEY] and not same_body then return "key_reused" end
  if not same_payment then
    note_surplus(id, reservation, request, "paid_twice")
    return "payment_conflict"
  end
  return reservation[RESERVATION_STATE] == STATE_CONFIRMED and "replayed" or "refund_due"
end

local results = {}
for i = 1, #requests do
  local request, id = requests[i], ids[i]
  local reservation = ledger.reservations[id]
  local state = reservation and reservation[RESERVATION_STATE]
  if not reservation then
    results[i] = {"not_found", 0}
  elseif state == STATE_CONFIRMED or state == STATE_REFUND_DUE or state == STATE_CANCELLED then
    results[i] = answer(settle_again(id, reservation, request), reservation)
  elseif request[3] ~= reservation[RESERVATION_AMOUNT_MINOR] then
    -- A storefront that names another amount made a mistake; a provider reports money that did come.
    if request[5] == "" then note_surplus(id, reservation, request, "amount_mismatch") end
    results[i] = answer("amount_mismatch", reservation)
  elseif is_surplus(reservation, request[2]) then
    -- What goes back to the shopper cannot pay as well.
    results[i] = answer("payment_conflict", reservation)
  elseif state == STATE_RESERVED and drop.now < reservation[RESERVATION_EXPIRES_AT_MS] then
    results[i] = sell(id, reservation, request)
  else
    if state == STATE_RESERVED then
      give_back(ledger, id, reservation, STATE_EXPIRED)
      record(ledger, "expired", id, reservation, "", "expired")
      for j = 1, #reservation[RESERVATION_ITEMS] do
        count(ledger, "expired_units", reservation[RESERVATION_ITEMS][j][2])
      end
    end
    results[i] = settle_late(id, reservation, request)
  end
end

ledger_write(ledger, {
  drop = KEYS[1], stock = KEYS[2], tickets = KEYS[3], reservations = KEYS[4], expiries = KEYS[5], slots = KEYS[6],
  stats = KEYS[7], journal = KEYS[8],
})
flow_parts(KEYS[9], "paid", passed_ms, drop.reservation_ttl_ms)
return done(drop, results)
