#!lua
-- Puts a drop back together from what Postgres knows, after the store has lost it, or a part of it, or went back in time.
-- Four steps, each harmless when repeated: begin clears what Postgres knows better and keeps the line, keep goes through
-- the tickets of that line, load brings orders chunk by chunk, finish opens the drop when every unit is accounted for.
-- Until then it stays fenced ("rebuilding").
-- KEYS[1] drop hash: rules, counters, the fence
-- KEYS[2] stock hash: units
-- KEYS[3] tickets hash: ticket id to record; kept, with counters set anew
-- KEYS[4] reservations hash: reservation id to record
-- KEYS[5] expiries zset: live reservations by expiry
-- KEYS[6] slots zset: queue numbers that count as active
-- KEYS[7] restored hash: queue number to the ticket that has it back
-- KEYS[8] adjustments hash: id of a stock adjustment to its record
-- KEYS[9] served stream: one entry per raise of the serving number
-- KEYS[10] journal stream: what the reconciler reads
-- KEYS[11] called zset: places called; whoever was called keeps the right to come
-- KEYS[12] standby zset: places of shoppers who found everything reserved
-- KEYS[13] wants hash: place in standby to what it waits for
-- KEYS[14] offers zset: places in standby whose turn it is
-- ARGV[1] step msgpack: {attempt id, clock_ms, word, …}. {"begin", epoch looked at or 0, fields (name to text), skus}, each
--         SKU {sku, allotment, units sold that no loaded order stands for, price_minor, limit_per_shopper}; {"keep", ticket
--         ids}; {"load", shoppers, adjustments}, each shopper {ticket_id, queue place, orders, place the ticket was
--         given}, each adjustment {id, sku, delta,
--         at_ms}, each order {reservation_id, state, items, amount_minor, reserved_at_ms, expires_at_ms, payment_reference,
--         request_id, reason (empty, or why a live one cannot come back), extend_key, references of payments that go back};
--         {"finish", epoch, state, skus, reservations, live, {queue number from which nobody knows when it was served, ms of
--         the last raise before}}, each SKU {sku, reserved, sold, draining}
-- RETURNS msgpack {outcome, now_ms, what does not add up or ""}
-- OUTCOMES begun kept loaded finished replayed superseded unbalanced
-- COST O(orders in the chunk), at most 1000; begin and finish O(SKUs)
-- INCLUDE arguments drop ledger lines

local ORDERS_MAX = 1000
local FIELDS_MAX = 64
local SURPLUS_REMEMBERED_MAX = 16
-- Postgres does not know whether an adjustment was to drain, nor how much: see adjust_stock.
local DRAIN_FORGOTTEN = 2

local step = unpack_array(ARGV[1], 9, "step")
local attempt, clock_ms, word = text(step[1], 64, "attempt"), whole(step[2], 0, 2 ^ 53, "clock_ms"), text(step[3], 16, "word")

local held = redis.call("HMGET", KEYS[1], "epoch", "fenced", "rebuild", "sequence", "skus", "clock", "entries", "serving_number",
  "restore_from", "restore_lines")
local reservations_held, live_held = redis.call("HLEN", KEYS[4]), redis.call("ZCARD", KEYS[5])
redis.call("HLEN", KEYS[2])
redis.call("HLEN", KEYS[3])
redis.call("HLEN", KEYS[7])
redis.call("HLEN", KEYS[8])
redis.call("ZCARD", KEYS[6])
redis.call("XLEN", KEYS[9])
redis.call("XLEN", KEYS[10])
redis.call("ZCARD", KEYS[11])
redis.call("ZCARD", KEYS[12])
redis.call("HLEN", KEYS[13])
redis.call("ZCARD", KEYS[14])
local epoch, fenced, attempt_held = tonumber(held[1] or ""), held[2] or "", held[3] or ""
local now = (held[6] == "injected" and clock_ms > 0) and clock_ms or store_time_ms()

local function reply(outcome, detail)
  return cmsgpack.pack({outcome, now, detail or ""})
end

local function begin()
  local looked_at, fields, skus = whole(step[4], 0, 2 ^ 53, "epoch"), step[5], step[6]
  if type(fields) ~= "table" or type(skus) ~= "table" or #skus == 0 or #skus > 50 then
    bad_argument("fields must be a map and skus an array of 1 to 50")
  end
  local rules, names, units = {}, {}, {}
  for name, value in pairs(fields) do
    rules[#rules + 1], rules[#rules + 2] = text(name, 64, "name"), text_or_empty(value, 262144, name)
  end
  if #rules > 2 * FIELDS_MAX then bad_argument("fields must be at most " .. FIELDS_MAX) end
  for i = 1, #skus do
    local s, n = skus[i], #units
    local sku, allotment = text(s[1], 64, "sku"), whole(s[2], 0, 1e7, "allotment")
    local sold = whole(s[3], 0, allotment, "sold")
    names[i] = sku
    units[n + 1], units[n + 2] = "allotment:" .. sku, allotment
    units[n + 3], units[n + 4] = "available:" .. sku, allotment - sold
    units[n + 5], units[n + 6] = "reserved:" .. sku, 0
    units[n + 7], units[n + 8] = "sold:" .. sku, sold
    units[n + 9], units[n + 10] = "price:" .. sku, string.format("%d", whole(s[4], 0, 1e11, "price_minor"))
    units[n + 11], units[n + 12] = "limit:" .. sku, whole(s[5], 1, 1e7, "limit_per_shopper")
    units[n + 13], units[n + 14] = "draining:" .. sku, 0
  end
  if epoch and fenced == "rebuilding" and attempt_held == attempt then return reply("replayed") end
  if (epoch or 0) ~= looked_at or epoch and fenced == "" then return reply("superseded") end
  redis.call("UNLINK", KEYS[2], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[11], KEYS[12], KEYS[13], KEYS[14])
  redis.call("HSET", KEYS[2], unpack(units))
  redis.call("HSET", KEYS[1], "fenced", "rebuilding", "rebuild", attempt, "skus", cmsgpack.pack(names), unpack(rules))
  return reply("begun")
end

-- The ledger of a fenced drop; nil when it is not ours to rebuild or cannot be read.
local function open_ledger()
  if not epoch or fenced ~= "rebuilding" or attempt_held ~= attempt then return nil end
  local ledger = ledger_new({
    epoch = epoch, now = now, sequence = tonumber(held[4]), skus = cmsgpack.unpack(held[5]), entries = tonumber(held[7] or ""),
  })
  return ledger_read_stock(ledger, KEYS[2]) and ledger or nil
end

local all_keys = {
  drop = KEYS[1], stock = KEYS[2], tickets = KEYS[3], reservations = KEYS[4], expiries = KEYS[5], slots = KEYS[6],
  journal = KEYS[10],
}

local function check_shoppers(shoppers, ledger)
  local ids, ticket_ids = {}, {}
  for i = 1, #shoppers do
    ticket_ids[i] = text(shoppers[i][1], 128, "ticket_id")
    whole(shoppers[i][2], 0, 2 ^ 53, "number")
    local orders = shoppers[i][3]
    if type(orders) ~= "table" or #orders == 0 then bad_argument("each shopper must have orders") end
    for j = 1, #orders do
      local order = orders[j]
      if type(order) ~= "table" or #order ~= 11 or type(order[3]) ~= "table" then bad_argument("an order must have eleven parts") end
      ids[#ids + 1] = text(order[1], 128, "reservation_id")
      whole(order[2], STATE_RESERVED, STATE_CANCELLED, "state")
      for k = 1, #order[3] do
        if not ledger.stock[order[3][k][1]] then bad_argument("an item names an unknown SKU") end
        whole(order[3][k][2], 1, 1000, "quantity")
      end
      whole(order[4], 0, 2 ^ 53, "amount_minor")
      whole(order[5], 0, 2 ^ 53, "reserved_at_ms")
      whole(order[6], 0, 2 ^ 53, "expires_at_ms")
      for k = 7, 10 do text_or_empty(order[k], 128, "payment_reference, request_id, reason and extend_key") end
      if type(order[11]) ~= "table" or #order[11] > SURPLUS_REMEMBERED_MAX then bad_argument("surplus must be an array of at most 16") end
      for k = 1, #order[11] do text(order[11][k], 128, "surplus") end
    end
  end
  if #ids > ORDERS_MAX then bad_argument("orders must be at most " .. ORDERS_MAX) end
  return ids, ticket_ids
end

-- Moves the order's units to where its state wants them, once; `ticket` holds them.
local function place_order(ledger, id, order, ticket, number)
  local state, items = order[2], order[3]
  ticket[TICKET_RESERVATIONS] = ticket[TICKET_RESERVATIONS] + 1
  if state == STATE_RESERVED then
    ticket[TICKET_LIVE] = ticket[TICKET_LIVE] + 1
  end
  if state == STATE_RESERVED or state == STATE_CONFIRMED then hold_units(ticket, items, 1) end
  if ledger.reservations[id] then return end
  if state == STATE_RESERVED then
    local n = #ledger.expiries_add
    move_units(ledger, items, "available", "reserved")
    ledger.expiries_add[n + 1], ledger.expiries_add[n + 2] = order[6], id
    ledger.slots_add[n + 1], ledger.slots_add[n + 2] = order[6], number
  elseif state == STATE_CONFIRMED then
    move_units(ledger, items, "available", "sold")
  end
end

local function record_of(order, ticket_id, number)
  local record = {order[2], ticket_id, number, order[3], order[4], order[5], order[6], order[7], order[8], ""}
  if order[10] ~= "" or #order[11] > 0 then record[RESERVATION_EXTEND_KEY] = order[10] end
  if #order[11] > 0 then record[RESERVATION_SURPLUS] = order[11] end
  return record
end

local function forget_counters(ticket)
  ticket[TICKET_RESERVATIONS], ticket[TICKET_LIVE], ticket[TICKET_UNITS], ticket[TICKET_HELD] = 0, 0, 0, {}
end

-- Before the orders come back. What a ticket had counted may be of reservations that nobody knows any more; and a number
-- that may be taken up with a receipt is taken when somebody has it.
local function keep()
  local ids = step[4]
  if type(ids) ~= "table" or #ids > ORDERS_MAX then bad_argument("ticket ids must be at most " .. ORDERS_MAX) end
  for i = 1, #ids do text(ids[i], 128, "ticket_id") end
  local ledger = open_ledger()
  if not ledger then return reply("superseded") end
  -- A copy of this call that arrives late finds that orders are back and their tickets right.
  if reservations_held > 0 then return reply("replayed") end
  read_tickets(ledger, KEYS[3], ids)
  local numbers, first_of = {}, {[0] = tonumber(held[9] or "") or 0}
  local ranges = held[10] and held[10] ~= "" and cmsgpack.unpack(held[10]) or {}
  for i = 1, #ranges do first_of[i] = ranges[i][1] end
  for id, ticket in pairs(ledger.tickets) do
    forget_counters(ticket)
    ledger.tickets_changed[id] = true
    local place = ticket[TICKET_PLACE]
    if place % LINE_STRIDE >= (first_of[line_of(place)] or 0) then numbers[#numbers + 1], numbers[#numbers + 2] = place, id end
  end
  ledger_write(ledger, all_keys)
  if #numbers > 0 then redis.call("HSET", KEYS[7], unpack(numbers)) end
  return reply("kept")
end

local function packed_adjustments(adjustments)
  local made = {}
  for i = 1, #adjustments do
    local a = adjustments[i]
    local id, sku, delta = text(a[1], 128, "id"), text(a[2], 64, "sku"), whole(a[3], -1e7, 1e7, "delta")
    made[#made + 1], made[#made + 2] = id, cmsgpack.pack({sku, delta, DRAIN_FORGOTTEN, whole(a[4], 0, 2 ^ 53, "at_ms")})
  end
  return made
end

local function load()
  local shoppers, adjustments = step[4], step[5]
  if type(shoppers) ~= "table" or #shoppers > ORDERS_MAX then bad_argument("shoppers must be at most " .. ORDERS_MAX) end
  if type(adjustments) ~= "table" or #adjustments > ORDERS_MAX then bad_argument("adjustments must be at most " .. ORDERS_MAX) end
  local made = packed_adjustments(adjustments)
  local ledger = open_ledger()
  if not ledger then return reply("superseded") end
  local ids, ticket_ids = check_shoppers(shoppers, ledger)
  read_records(KEYS[4], ids, ledger.reservations)
  read_tickets(ledger, KEYS[3], ticket_ids)

  local numbers, fresh = {}, 0
  for i = 1, #shoppers do
    local ticket_id, number, orders = ticket_ids[i], shoppers[i][2], shoppers[i][3]
    local place = whole(shoppers[i][4] or number, 0, 2 ^ 53, "place")
    -- Nobody knows any more when they joined; they were admitted before they reserved.
    local first_ms = orders[1][5]
    local late = (ledger.drop.entries and place % LINE_STRIDE >= ledger.drop.entries) and 1 or 0
    local ticket = ledger.tickets[ticket_id]
    if not ticket then
      ticket = fresh_ticket(place, late, 0)
      ticket[TICKET_ADMITTED_AT_MS], ticket[TICKET_TURN] = first_ms, number ~= place and number or -1
    end
    number = slot_of(ticket)
    forget_counters(ticket)
    for j = 1, #orders do
      local order = orders[j]
      local id = order[1]
      place_order(ledger, id, order, ticket, number)
      if not ledger.reservations[id] then
        local reservation = record_of(order, ticket_id, number)
        ledger.reservations[id], ledger.reservations_changed[id] = reservation, true
        if order[9] ~= "" then record(ledger, "released", id, reservation, "", order[9]) end
        fresh = fresh + 1
      end
    end
    ledger.tickets[ticket_id], ledger.tickets_changed[ticket_id] = ticket, true
    numbers[#numbers + 1], numbers[#numbers + 2] = ticket[TICKET_PLACE], ticket_id
  end
  if #made > 0 then redis.call("HSET", KEYS[8], unpack(made)) end
  if fresh == 0 and #ids > 0 then return reply("replayed") end
  ledger_write(ledger, all_keys)
  if #numbers > 0 then redis.call("HSET", KEYS[7], unpack(numbers)) end
  return reply("loaded")
end

-- What does not add up, in words, or nil.
local function imbalance(ledger, skus, reservations, live)
  if reservations ~= reservations_held then return "reservations" end
  if live ~= live_held then return "live reservations" end
  for i = 1, #skus do
    local sku, reserved, sold = skus[i][1], skus[i][2], skus[i][3]
    local stock = ledger.stock[sku]
    if not stock then return "SKU " .. sku end
    if stock.available < 0 or stock.reserved ~= reserved or stock.sold ~= sold
      or stock.allotment ~= stock.available + stock.reserved + stock.sold then
      return "units of " .. sku
    end
  end
  return #skus ~= #ledger.drop.skus and "SKUs" or nil
end

local function finish()
  local next_epoch, state, skus = whole(step[4], 1, 2 ^ 53, "epoch"), text(step[5], 16, "state"), step[6]
  local reservations, live = whole(step[7], 0, 2 ^ 53, "reservations"), whole(step[8], 0, 2 ^ 53, "live")
  if type(skus) ~= "table" or type(step[9]) ~= "table" then bad_argument("skus and served must be arrays") end
  local from, at_ms = whole(step[9][1], 0, 2 ^ 53, "served"), whole(step[9][2], 0, 2 ^ 53, "served_at_ms")
  if attempt_held == attempt and fenced == "" and epoch == next_epoch then return reply("replayed") end
  local ledger = open_ledger()
  if not ledger then return reply("superseded") end
  local why = imbalance(ledger, skus, reservations, live)
  if why then return reply("unbalanced", why) end
  for i = 1, #skus do
    local draining = whole(skus[i][4], 0, 1e7, "draining")
    ledger.stock[skus[i][1]].draining = draining
    if draining > 0 then ledger.stock_changed[skus[i][1]] = true end
  end
  ledger_write(ledger, all_keys)
  local sequence, serving_number = next_sequence(ledger.drop), tonumber(held[8])
  redis.call("HSET", KEYS[1], "fenced", "", "epoch", next_epoch, "sequence", sequence, "state", state, "state_at_ms", now)
  redis.call("XADD", KEYS[10], "*", "v", "1", "s", sequence, "d", cmsgpack.pack({state, now}))
  if from < serving_number then
    redis.call("XADD", KEYS[9], "*", "at_ms", string.format("%d", at_ms), "from", from, "to", serving_number)
  end
  return reply("finished")
end

if word == "begin" then return begin() end
if word == "keep" then return keep() end
if word == "load" then return load() end
if word == "finish" then return finish() end
bad_argument("word must be begin, keep, load or finish")
