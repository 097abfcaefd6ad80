#!lua
-- Brings a reservation back that a loss has swallowed: its signed receipt, checked by the caller, says what it was.
-- KEYS[1] drop hash: state and rules
-- KEYS[2] stock hash: units
-- KEYS[3] tickets hash: ticket id to record
-- KEYS[4] reservations hash: reservation id to record
-- KEYS[5] expiries zset: live reservations by expiry
-- KEYS[6] slots zset: queue numbers that count as active
-- KEYS[7] restored hash: queue number to the ticket that has it back
-- KEYS[8] stats hash: totals for people
-- KEYS[9] journal stream: what the reconciler reads
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] requests msgpack: array of {reservation_id, ticket_id, request_id, epoch of the receipt, number, items,
--         amount_minor, reserved_at_ms, expires_at_ms, place the ticket was given}; number is the queue place, items as in reserve
-- RETURNS msgpack {"done", now_ms, results, sequence}, each {outcome, state, amount_minor, reserved_at_ms, expires_at_ms,
--         number}, or {outcome, 0}; or {"recovering", epoch, {}}
-- OUTCOMES restored replayed not_found expired sold_out limit_reached recovering
-- COST O(requests)
-- INCLUDE arguments drop ledger lines places

-- A loss may have taken the minutes in which the shopper would have paid.
local GRACE_MS = 60000

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local ids, ticket_ids, numbers = {}, {}, {}
for i = 1, #requests do
  local request = requests[i]
  ids[i], ticket_ids[i] = text(request[1], 128, "reservation_id"), text(request[2], 128, "ticket_id")
  text_or_empty(request[3], 128, "request_id")
  whole(request[4], 0, 2 ^ 53, "epoch")
  whole(request[5], 0, 2 ^ 53, "number")
  numbers[i] = whole(request[10] or request[5], 0, 2 ^ 53, "place")
  check_items(request[6])
  whole(request[7], 0, 2 ^ 53, "amount_minor")
  whole(request[8], 0, 2 ^ 53, "reserved_at_ms")
  whole(request[9], 0, 2 ^ 53, "expires_at_ms")
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_records(KEYS[4], ids, ledger.reservations)
read_tickets(ledger, KEYS[3], ticket_ids)
local lines = read_lines(drop)
local places = places_open({drop = KEYS[1], restored = KEYS[7]}, lines, numbers)
check_types(KEYS[5], KEYS[6], KEYS[8], KEYS[9])

-- The shopper's ticket, made anew when the loss has swallowed it too: with its old number when that is still free.
local function old_ticket(ticket_id, place, turn, receipt_epoch)
  if ledger.tickets[ticket_id] then return ledger.tickets[ticket_id] end
  local line = lines[line_of(place)] or lines[0]
  local late = line.entries and place % LINE_STRIDE >= line.entries and 1 or 0
  if not take_place(places, drop, ticket_id, place, receipt_epoch) then
    place, turn, late = line_of(place) * LINE_STRIDE + line.joined, -1, 1
    line.joined, places.raised = line.joined + 1, true
  end
  local ticket = fresh_ticket(place, late, 0)
  ticket[TICKET_ADMITTED_AT_MS], ticket[TICKET_TURN] = drop.now, turn ~= place and turn or -1
  return ticket
end

-- Why `items` cannot be taken again, or nil.
local function refusal(ticket, items)
  local units = 0
  for j = 1, #items do
    local sku, quantity = items[j][1], items[j][2]
    local stock = ledger.stock[sku]
    if not stock or stock.available < quantity then return "sold_out" end
    if ticket and (ticket[TICKET_HELD][sku] or 0) + quantity > stock.limit then return "limit_reached" end
    units = units + quantity
  end
  if ticket and ticket[TICKET_UNITS] + units > drop.limit_per_shopper then return "limit_reached" end
  if ticket and ticket[TICKET_RESERVATIONS] >= drop.reservations_per_shopper_max then return "limit_reached" end
  return nil
end

local function take_again(id, request)
  local ticket_id, items = request[2], request[6]
  local ticket = old_ticket(ticket_id, request[10] or request[5], request[5], request[4])
  local number, expires_at_ms, n = slot_of(ticket), math.max(request[9], drop.now + GRACE_MS), #ledger.expiries_add
  local reservation = {STATE_RESERVED, ticket_id, number, items, request[7], request[8], expires_at_ms, "", request[3], ""}
  move_units(ledger, items, "available", "reserved")
  hold_units(ticket, items, 1)
  ticket[TICKET_RESERVATIONS], ticket[TICKET_LIVE] = ticket[TICKET_RESERVATIONS] + 1, ticket[TICKET_LIVE] + 1
  ledger.tickets[ticket_id], ledger.tickets_changed[ticket_id] = ticket, true
  ledger.reservations[id], ledger.reservations_changed[id] = reservation, true
  ledger.expiries_add[n + 1], ledger.expiries_add[n + 2] = expires_at_ms, id
  ledger.slots_add[n + 1], ledger.slots_add[n + 2] = expires_at_ms, number
  record(ledger, "reserved", id, reservation, request[3], "")
  count(ledger, "restored", 1)
  return reservation
end

local results = {}
for i = 1, #requests do
  local request, id = requests[i], ids[i]
  if ledger.reservations[id] then
    results[i] = answer("replayed", ledger.reservations[id])
  elseif request[4] >= drop.epoch then
    results[i] = {"not_found", 0}
  elseif drop.now >= request[9] + GRACE_MS then
    results[i] = {"expired", 0}
  else
    local why = refusal(ledger.tickets[ticket_ids[i]], request[6])
    results[i] = why and {why, 0} or answer("restored", take_again(id, request))
  end
end

ledger_write(ledger, {
  drop = KEYS[1], stock = KEYS[2], tickets = KEYS[3], reservations = KEYS[4], expiries = KEYS[5], slots = KEYS[6],
  stats = KEYS[8], journal = KEYS[9],
})
if #places.given > 0 then redis.call("HSET", KEYS[7], unpack(places.given)) end
if places.raised then
  local fields = lines_fields(lines, {})
  places_fields(places, fields)
  redis.call("HSET", KEYS[1], unpack(fields))
end
return done(drop, results)
