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
-- KEYS[9] standby zset: places of shoppers who found everything reserved; what comes back is for them first
-- KEYS[10] wants hash: place in standby to what it waits for
-- KEYS[11] offers zset: places in standby whose turn it is
-- KEYS[12] flow hash: how the line has moved
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] requests msgpack: array of {reservation_id, ticket_id, token_id, request_id, items}; items is an array of
--         {sku, quantity}, each SKU once and always in the same order, so that a repetition compares equal
-- RETURNS msgpack {"done", now_ms, results, sequence}, each {outcome, state, amount_minor, reserved_at_ms, expires_at_ms, number},
--         {"sold_out", {sku, left, sku, left, …}, 1 when the shopper now waits for what comes back, else 0}, {"limit_reached", limit, held} or {outcome, at_ms};
--         or {"recovering", epoch, {}}
-- OUTCOMES reserved replayed key_reused not_open paused closed token_invalid token_expired unknown_sku limit_reached sold_out recovering
-- COST O(requests), seven commands and the writes whatever their number
-- INCLUDE arguments drop ledger flow standby

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local ids, ticket_ids = {}, {}
for i = 1, #requests do
  local request = requests[i]
  ids[i], ticket_ids[i] = text(request[1], 128, "reservation_id"), text(request[2], 128, "ticket_id")
  text(request[3], 64, "token_id")
  text_or_empty(request[4], 128, "request_id")
  check_items(request[5])
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_records(KEYS[4], ids, ledger.reservations)
read_tickets(ledger, KEYS[3], ticket_ids)
check_types(KEYS[5], KEYS[6], KEYS[7], KEYS[8])
local line = {standby = KEYS[9], wants = KEYS[10], offers = KEYS[11]}
local stock_of = ledger.stock
local standing = redis.call("ZCARD", KEYS[9])
local waiting = standby_waiting(line, standing, stock_of)
redis.call("HLEN", KEYS[10])
redis.call("ZCARD", KEYS[11])
redis.call("HLEN", KEYS[12])

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

-- Looks at each item once. Answers why `items` cannot be taken, or nil, their price and their number.
local function judge(ticket, items)
  local held_of, units, amount_minor, may_return = ticket[TICKET_HELD], 0, 0, true
  local limit, held, short
  if ticket[TICKET_RESERVATIONS] >= drop.reservations_per_shopper_max then
    limit, held = drop.reservations_per_shopper_max, ticket[TICKET_RESERVATIONS]
  end
  for j = 1, #items do
    local sku, quantity = items[j][1], items[j][2]
    local stock = stock_of[sku]
    if not stock then return {"unknown_sku", 0} end
    local of_sku = held_of[sku] or 0
    if not limit and of_sku + quantity > stock.limit then limit, held = stock.limit, of_sku end
    if quantity > stock.available then short = true end
    if quantity > stock.available + stock.reserved - stock.draining then may_return = false end
    units = units + quantity
    amount_minor = amount_minor + stock.price * quantity
  end
  if not limit and ticket[TICKET_UNITS] + units > drop.limit_per_shopper then
    limit, held = drop.limit_per_shopper, ticket[TICKET_UNITS]
  end
  if limit then return {"limit_reached", limit, held} end
  if short or (waiting[1] and not standby_leaves(waiting, stock_of, slot_of(ticket), items)) then
    local left = {}
    for j = 1, #items do
      left[2 * j - 1], left[2 * j] = items[j][1], stock_of[items[j][1]].available
    end
    return {"sold_out", left, may_return and 1 or 0}
  end
  return nil, amount_minor, units
end

local now, expires_at_ms, taken, taken_units = drop.now, drop.now + drop.reservation_ttl_ms, 0, 0
local stays_ms = {}

local function take(id, ticket_id, ticket, request, amount_minor, units)
  local items, number, request_id = request[5], slot_of(ticket), request[4]
  move_units(ledger, items, "available", "reserved")
  hold_units(ticket, items, 1)
  if ticket[TICKET_RESERVATIONS] == 0 then stays_ms[#stays_ms + 1] = now - ticket[TICKET_ADMITTED_AT_MS] end
  ticket[TICKET_RESERVATIONS] = ticket[TICKET_RESERVATIONS] + 1
  ticket[TICKET_LIVE] = ticket[TICKET_LIVE] + 1
  ledger.tickets_changed[ticket_id] = true
  ledger.reservations[id] = {STATE_RESERVED, ticket_id, number, items, amount_minor, now, expires_at_ms, "", request_id, ""}
  ledger.reservations_changed[id] = true
  local at = 2 * taken
  taken, taken_units = taken + 1, taken_units + units
  ledger.expiries_add[at + 1], ledger.expiries_add[at + 2] = expires_at_ms, id
  ledger.slots_add[at + 1], ledger.slots_add[at + 2] = expires_at_ms, number
  ledger.transitions[taken] = {
    "reserved", id, now, request_id, ticket_id, number, items, amount_minor, now, expires_at_ms, "", "",
  }
  return {"reserved", STATE_RESERVED, amount_minor, now, expires_at_ms, number}
end

-- What each shopper of this call now waits for, or false; `wanted_of`: what they waited for before, or false.
local wants_of, wanted_of = {}, {}

if standing > 0 then
  local places = {}
  for i = 1, #ticket_ids do
    local ticket = ledger.tickets[ticket_ids[i]]
    if ticket then places[#places + 1] = slot_of(ticket) end
  end
  local wants = #places > 0 and redis.call("HMGET", KEYS[10], unpack(places)) or {}
  for i = 1, #places do wanted_of[places[i]] = wants[i] and cmsgpack.unpack(wants[i]) end
end

local function wanted_at(place)
  if wants_of[place] ~= nil then return wants_of[place] end
  return wanted_of[place]
end

local function is_available(items)
  for j = 1, #items do
    if items[j][2] > stock_of[items[j][1]].available then return false end
  end
  return true
end

-- Keeps the shopper's place for what comes back, before everybody with a higher one, while there is room. Answers whether it is kept.
local function stand_by(ticket, items)
  local place = slot_of(ticket)
  local wanted = wanted_at(place)
  if not wanted and standing >= STANDBY_MAX then return 0 end
  local available = is_available(items)
  -- Nothing is there to ask for, and nothing is wanted that was not before.
  if wanted and not available and same_items(wanted[2], items) then return 1 end
  if not wanted then standing = standing + 1 end
  wants_of[place] = {now, items}
  standby_set(waiting, place, available and items or nil, now)
  return 1
end

local function stand_no_more(ticket)
  local place = slot_of(ticket)
  if not wanted_at(place) then return end
  standing, wants_of[place] = standing - 1, false
  standby_set(waiting, place, nil)
end

local results = {}
for i = 1, #requests do
  local request, id, ticket_id = requests[i], ids[i], ticket_ids[i]
  local before, ticket = ledger.reservations[id], ledger.tickets[ticket_id]
  if before then
    results[i] = same_items(before[RESERVATION_ITEMS], request[5]) and answer("replayed", before) or {"key_reused", 0}
  elseif refusal then
    results[i] = refusal
    count(ledger, "refused:" .. refusal[1], 1)
  elseif not ticket or ticket[TICKET_TOKEN_ID] ~= request[3] then
    results[i] = {"token_invalid", 0}
  elseif now >= ticket[TICKET_TOKEN_EXPIRES_AT_MS] then
    results[i] = {"token_expired", ticket[TICKET_TOKEN_EXPIRES_AT_MS]}
  else
    local why, amount_minor, units = judge(ticket, request[5])
    if not why then
      results[i] = take(id, ticket_id, ticket, request, amount_minor, units)
      if standing > 0 then stand_no_more(ticket) end
    else
      if why[1] == "sold_out" and why[3] == 1 then why[3] = stand_by(ticket, request[5]) end
      results[i] = why
      if why[1] ~= "unknown_sku" then count(ledger, "refused:" .. why[1], 1) end
    end
  end
end
if taken_units > 0 then count(ledger, "reserved_units", taken_units) end
flow_parts(KEYS[12], "chose", stays_ms, drop.claim_window_ms)
flow_add(KEYS[12], "reserved", taken)

ledger_write(ledger, {
  drop = KEYS[1], stock = KEYS[2], tickets = KEYS[3], reservations = KEYS[4], expiries = KEYS[5], slots = KEYS[6],
  stats = KEYS[7], journal = KEYS[8],
})
local places_add, wants_add, places_done = {}, {}, {}
for place, want in pairs(wants_of) do
  local n = #places_add
  if want then
    places_add[n + 1], places_add[n + 2] = place, place
    wants_add[n + 1], wants_add[n + 2] = place, cmsgpack.pack(want)
  else
    places_done[#places_done + 1] = place
  end
end
standby_leave(line, places_done)
if #places_add > 0 then
  redis.call("ZADD", KEYS[9], unpack(places_add))
  redis.call("HSET", KEYS[10], unpack(wants_add))
end
return done(drop, results)
