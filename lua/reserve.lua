#!lua
-- Takes units for admitted shoppers: each request gets all of its items or none.
-- Order of checks: epoch, replay, state of the drop, token, limit, stock. Replay comes first, so that repeating the
-- request that took the last unit finds that reservation and not "sold out".
-- KEYS[1] drop hash: state and rules
-- KEYS[2] stock hash: units
-- KEYS[3] tickets hash: ticket id to record
-- KEYS[4] reservations hash: reservation id to record
-- KEYS[5] expiries zset: live reservations by expiry
-- KEYS[6] slots zset: queue numbers that count as active
-- KEYS[7] stats hash: totals for people
-- KEYS[8] journal stream: what the reconciler reads
-- ARGV[1] envelope msgpack: {epoch, clock_ms}
-- ARGV[2] requests msgpack: array of {reservation_id, ticket_id, token_id, request_id, items}; items is an array of
--         {sku, quantity} in ascending order of SKU
-- RETURNS msgpack {"done", now_ms, results}, each {outcome, state, amount_minor, reserved_at_ms, expires_at_ms},
--         {"sold_out", {sku, left, sku, left, …}}, {"limit_reached", limit, held} or {outcome, at_ms};
--         or {"recovering", epoch, {}}
-- OUTCOMES reserved replayed key_reused not_open paused closed token_invalid token_expired unknown_sku limit_reached sold_out recovering
-- COST O(requests), seven commands and the writes whatever their number
-- INCLUDE arguments drop ledger

local ITEMS_MAX = 10
local QUANTITY_MAX = 1000

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local ids, ticket_ids = {}, {}
for i = 1, #requests do
  local request = requests[i]
  ids[i], ticket_ids[i] = text(request[1], 128, "reservation_id"), text(request[2], 128, "ticket_id")
  text(request[3], 64, "token_id")
  text_or_empty(request[4], 128, "request_id")
  local items, last = request[5], ""
  if type(items) ~= "table" or #items == 0 or #items > ITEMS_MAX then bad_argument("items must be 1 to 10 pairs") end
  for j = 1, #items do
    local sku = text(items[j][1], 64, "sku")
    if sku <= last then bad_argument("items must be in ascending order of SKU") end
    last = sku
    whole(items[j][2], 1, QUANTITY_MAX, "quantity")
  end
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_records(KEYS[4], ids, ledger.reservations)
read_records(KEYS[3], ticket_ids, ledger.tickets)
check_types(KEYS[5], KEYS[6], KEYS[7], KEYS[8])

local refusal
if drop.effective == "closed" then refusal = {"closed", drop.closes_at_ms}
elseif drop.effective == "paused" then refusal = {"paused", drop.now}
elseif drop.effective ~= "open" then refusal = {"not_open", drop.opens_at_ms} end

local function same_items(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i][1] ~= b[i][1] or a[i][2] ~= b[i][2] then return false end
  end
  return true
end

local function answer(outcome, reservation)
  return {
    outcome, reservation[RESERVATION.state], reservation[RESERVATION.amount_minor],
    reservation[RESERVATION.reserved_at_ms], reservation[RESERVATION.expires_at_ms],
  }
end

-- The limit that `items` would break for this shopper and what they hold towards it, or nil.
local function limit_broken(ticket, items)
  if ticket[TICKET.reservations] >= drop.reservations_per_shopper_max then
    return drop.reservations_per_shopper_max, ticket[TICKET.reservations]
  end
  local units = 0
  for i = 1, #items do
    local sku, quantity = items[i][1], items[i][2]
    local held = ticket[TICKET.held][sku] or 0
    if held + quantity > ledger.stock[sku].limit then return ledger.stock[sku].limit, held end
    units = units + quantity
  end
  if ticket[TICKET.units] + units > drop.limit_per_shopper then return drop.limit_per_shopper, ticket[TICKET.units] end
end

local function known(items)
  for i = 1, #items do
    if not ledger.stock[items[i][1]] then return false end
  end
  return true
end

-- What is left of each SKU asked for when that is too little for any of them, or nil.
local function shortage(items)
  local short, left = false, {}
  for i = 1, #items do
    local available = ledger.stock[items[i][1]].available
    if available < items[i][2] then short = true end
    left[#left + 1], left[#left + 2] = items[i][1], available
  end
  return short and left or nil
end

local function take(id, ticket_id, ticket, request)
  local items, amount_minor, units = request[5], 0, 0
  for i = 1, #items do
    amount_minor = amount_minor + ledger.stock[items[i][1]].price * items[i][2]
    units = units + items[i][2]
  end
  local expires_at_ms = drop.now + drop.reservation_ttl_ms
  local reservation = {
    STATE.reserved, ticket_id, ticket[TICKET.number], items, amount_minor, drop.now, expires_at_ms, "", request[4],
  }
  move_units(ledger, items, "available", "reserved")
  hold_units(ticket, items, 1)
  ticket[TICKET.reservations] = ticket[TICKET.reservations] + 1
  ticket[TICKET.live] = ticket[TICKET.live] + 1
  ledger.tickets_changed[ticket_id] = true
  ledger.reservations[id] = reservation
  ledger.reservations_changed[id] = true
  local n, m = #ledger.expiries_add, #ledger.slots_add
  ledger.expiries_add[n + 1], ledger.expiries_add[n + 2] = expires_at_ms, id
  ledger.slots_add[m + 1], ledger.slots_add[m + 2] = expires_at_ms, ticket[TICKET.number]
  record(ledger, "reserved", id, reservation, request[4], "")
  count(ledger, "reserved_units", units)
  return answer("reserved", reservation)
end

local results = {}
for i = 1, #requests do
  local request, id, ticket_id = requests[i], ids[i], ticket_ids[i]
  local items, before, ticket = request[5], ledger.reservations[ids[i]], ledger.tickets[ticket_ids[i]]
  if before then
    results[i] = same_items(before[RESERVATION.items], items) and answer("replayed", before) or {"key_reused", 0}
  elseif refusal then
    results[i] = refusal
    count(ledger, "refused:" .. refusal[1], 1)
  elseif not ticket or ticket[TICKET.token_id] ~= request[3] then
    results[i] = {"token_invalid", 0}
  elseif drop.now >= ticket[TICKET.token_expires_at_ms] then
    results[i] = {"token_expired", ticket[TICKET.token_expires_at_ms]}
  elseif not known(items) then
    results[i] = {"unknown_sku", 0}
  else
    local limit, held = limit_broken(ticket, items)
    local left = not limit and shortage(items)
    if limit then
      results[i] = {"limit_reached", limit, held}
      count(ledger, "refused:limit_reached", 1)
    elseif left then
      results[i] = {"sold_out", left}
      count(ledger, "refused:sold_out", 1)
    else
      results[i] = take(id, ticket_id, ticket, request)
    end
  end
end

ledger_write(ledger, {
  stock = KEYS[2], tickets = KEYS[3], reservations = KEYS[4], expiries = KEYS[5], slots = KEYS[6], stats = KEYS[7],
  journal = KEYS[8],
})
return done(drop, results)
