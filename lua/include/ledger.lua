-- Everything a call has read and decided, and the one place that writes it down.
-- Scripts read through the ledger, change its tables while they decide, and call ledger_write once at the end.
-- Records are packed arrays; the positions below are the format.

-- They are plain locals because a table of them would be looked up by name some twenty times a request.
local TICKET_PLACE, TICKET_LATE, TICKET_JOINED_AT_MS = 1, 2, 3
-- Not there until they are needed: a million people who only wait are a million short records.
local TICKET_TOKEN_ID, TICKET_TOKEN_ISSUED_AT_MS, TICKET_TOKEN_EXPIRES_AT_MS, TICKET_ADMITTED_AT_MS = 4, 5, 6, 7
local TICKET_RESERVATIONS, TICKET_LIVE, TICKET_UNITS, TICKET_HELD = 8, 9, 10, 11
local TICKET_TURN, TICKET_GONE, TICKET_HOLDER, TICKET_IDENTITY, TICKET_SHARED = 12, 13, 14, 15, 16
local LENGTH_WAITING, LENGTH_USUAL = 3, 11

local RESERVATION_STATE, RESERVATION_TICKET_ID, RESERVATION_NUMBER, RESERVATION_ITEMS = 1, 2, 3, 4
local RESERVATION_AMOUNT_MINOR, RESERVATION_RESERVED_AT_MS, RESERVATION_EXPIRES_AT_MS = 5, 6, 7
local RESERVATION_PAYMENT_REFERENCE, RESERVATION_REQUEST_ID, RESERVATION_CONFIRM_KEY = 8, 9, 10
-- Not there until they are needed, so that the usual record stays short.
local RESERVATION_EXTEND_KEY, RESERVATION_SURPLUS = 11, 12

local STATE_RESERVED, STATE_CONFIRMED, STATE_RELEASED, STATE_EXPIRED, STATE_REFUND_DUE = 1, 2, 3, 4, 5
local STATE_CANCELLED = 6

local function ledger_new(drop)
  return {
    drop = drop, stock = {}, stock_changed = {}, tickets = {}, tickets_changed = {}, of = {}, of_changed = {}, reservations = {},
    reservations_changed = {}, expiries_add = {}, expiries_remove = {}, slots_add = {}, slots_remove = {},
    transitions = {}, stock_changes = {}, stats = {},
  }
end

-- Reads all SKUs of the drop. Answers false when any number is missing or is none.
local function ledger_read_stock(ledger, key)
  local fields, skus = {}, ledger.drop.skus
  for i = 1, #skus do
    local at, sku = (i - 1) * 7, skus[i]
    fields[at + 1], fields[at + 2], fields[at + 3] = "allotment:" .. sku, "available:" .. sku, "reserved:" .. sku
    fields[at + 4], fields[at + 5], fields[at + 6] = "sold:" .. sku, "price:" .. sku, "limit:" .. sku
    fields[at + 7] = "draining:" .. sku
  end
  local values = redis.call("HMGET", key, unpack(fields))
  for i = 1, #fields do
    values[i] = values[i] and tonumber(values[i])
    if not values[i] then return false end
  end
  for i = 1, #skus do
    local at = (i - 1) * 7
    ledger.stock[skus[i]] = {
      allotment = values[at + 1], available = values[at + 2], reserved = values[at + 3],
      sold = values[at + 4], price = values[at + 5], limit = values[at + 6], draining = values[at + 7],
    }
  end
  return true
end

-- Reads packed records by id into `into`, leaving out those that are not there. One command for all ids.
local function read_records(key, ids, into)
  if #ids == 0 then return end
  local values, unpack_record = redis.call("HMGET", key, unpack(ids)), cmsgpack.unpack
  for i = 1, #ids do
    if values[i] then into[ids[i]] = unpack_record(values[i]) end
  end
end

local function whole_ticket(ticket)
  local held = ticket[TICKET_HELD] or {}
  return {
    ticket[1], ticket[2], ticket[3], ticket[4] or "", ticket[5] or 0, ticket[6] or 0, ticket[7] or 0, ticket[8] or 0,
    ticket[9] or 0, ticket[10] or 0, held, ticket[TICKET_TURN] or -1, ticket[TICKET_GONE] or "", ticket[TICKET_HOLDER] or "",
    ticket[TICKET_IDENTITY] or "", ticket[TICKET_SHARED] or 0,
  }
end

-- Reads tickets by id. A place that is known to a second device, or was handed to one, has a record there that only names the
-- ticket it belongs to: `ledger.of` says so.
local function read_tickets(ledger, key, ids)
  local found, others = {}, {}
  read_records(key, ids, found)
  for id, record in pairs(found) do
    if type(record[1]) == "string" then
      ledger.of[id] = record[1]
      others[#others + 1] = record[1]
    else
      ledger.tickets[id] = whole_ticket(record)
    end
  end
  if #others > 0 then
    local theirs = {}
    read_records(key, others, theirs)
    for id, record in pairs(theirs) do ledger.tickets[id] = ledger.tickets[id] or whole_ticket(record) end
  end
end

-- Why whoever presents the ticket `id` has no place, or nil and the ticket with its own id.
local function ticket_of(ledger, id)
  local own = ledger.of[id] or id
  local ticket = ledger.tickets[own]
  if not ticket then return "not_found" end
  if ticket[TICKET_GONE] ~= "" then return ticket[TICKET_GONE] end
  if own == id and ticket[TICKET_HOLDER] ~= "" then return "moved" end
  return nil, ticket, own
end

-- Where in the line the ticket is served; an entry's place until the draw is known for it.
local function slot_of(ticket)
  return ticket[TICKET_TURN] >= 0 and ticket[TICKET_TURN] or ticket[TICKET_PLACE]
end

local function fresh_ticket(place, late, joined_at_ms)
  return whole_ticket({place, late, joined_at_ms})
end

-- As short as it can be read again.
local function packed_ticket(ticket)
  local length = ticket[TICKET_SHARED] > 0 and TICKET_SHARED or TICKET_IDENTITY
  while length > LENGTH_USUAL and (ticket[length] == "" or ticket[length] == -1) do length = length - 1 end
  if length == LENGTH_USUAL and ticket[TICKET_TOKEN_ID] == "" and ticket[TICKET_ADMITTED_AT_MS] == 0
    and ticket[TICKET_RESERVATIONS] == 0 then
    length = LENGTH_WAITING
  end
  return cmsgpack.pack({unpack(ticket, 1, length)})
end

local function write_tickets(ledger, key)
  local arguments, n = {}, 0
  for id in pairs(ledger.tickets_changed) do
    arguments[n + 1], arguments[n + 2] = id, packed_ticket(ledger.tickets[id])
    n = n + 2
  end
  for id in pairs(ledger.of_changed) do
    arguments[n + 1], arguments[n + 2] = id, cmsgpack.pack({ledger.of[id]})
    n = n + 2
  end
  if n > 0 then redis.call("HSET", key, unpack(arguments)) end
end

-- Reads reservations by id, and the tickets they belong to.
local function read_reservations(ledger, reservations_key, tickets_key, ids)
  read_records(reservations_key, ids, ledger.reservations)
  local ticket_ids = {}
  for _, reservation in pairs(ledger.reservations) do
    ticket_ids[#ticket_ids + 1] = reservation[RESERVATION_TICKET_ID]
  end
  read_tickets(ledger, tickets_key, ticket_ids)
end

-- What a caller is told of a reservation.
local function answer(outcome, reservation)
  return {
    outcome, reservation[RESERVATION_STATE], reservation[RESERVATION_AMOUNT_MINOR],
    reservation[RESERVATION_RESERVED_AT_MS], reservation[RESERVATION_EXPIRES_AT_MS], reservation[RESERVATION_NUMBER],
  }
end

-- Fails now, before the first write, when a key that will be written holds another type.
local function check_types(expiries, slots, stats, journal)
  redis.call("ZCARD", expiries)
  redis.call("ZCARD", slots)
  redis.call("HLEN", stats)
  redis.call("XLEN", journal)
end

local function count(ledger, name, by)
  ledger.stats[name] = (ledger.stats[name] or 0) + by
end

local function move_units(ledger, items, from, to)
  for i = 1, #items do
    local sku, quantity = items[i][1], items[i][2]
    local stock = ledger.stock[sku]
    stock[from] = stock[from] - quantity
    stock[to] = stock[to] + quantity
    ledger.stock_changed[sku] = true
  end
end

-- The allotment of a SKU changed by `delta`. The reconciler does the same to Postgres once per `id`.
local function record_stock_change(ledger, id, sku, delta, reason)
  local stock = ledger.stock[sku]
  stock.allotment = stock.allotment + delta
  ledger.stock_changed[sku] = true
  ledger.stock_changes[#ledger.stock_changes + 1] = {id, sku, delta, stock.allotment, ledger.drop.now, reason}
end

-- Free units that are to be withdrawn leave the drop. The next number of the sequence makes their change's id: one call
-- drains a SKU once.
local function drain(ledger, sku)
  local stock, drop = ledger.stock[sku], ledger.drop
  local units = math.min(stock.draining, stock.available)
  if units > 0 then
    stock.draining, stock.available = stock.draining - units, stock.available - units
    local id = string.format("drain:%d:%d:%s", drop.epoch, drop.sequence + 1, sku)
    record_stock_change(ledger, id, sku, -units, "drained")
  end
end

-- What the shopper holds goes up or down by `items`; `sign` is 1 or -1.
local function hold_units(ticket, items, sign)
  local held = ticket[TICKET_HELD]
  for i = 1, #items do
    local sku, quantity = items[i][1], items[i][2]
    local units = (held[sku] or 0) + sign * quantity
    held[sku] = units > 0 and units or nil
    ticket[TICKET_UNITS] = ticket[TICKET_UNITS] + sign * quantity
  end
end

-- The shopper has one live reservation less; with the last one the slot is free for the next in line.
local function finish_slot(ledger, ticket_id, ticket)
  ticket[TICKET_LIVE] = ticket[TICKET_LIVE] - 1
  ledger.tickets_changed[ticket_id] = true
  if ticket[TICKET_LIVE] <= 0 then
    ticket[TICKET_LIVE] = 0
    ledger.slots_remove[#ledger.slots_remove + 1] = slot_of(ticket)
  end
end

-- A live reservation's units go back on sale, the shopper's allowance and slot with them.
local function give_back(ledger, id, reservation, state)
  move_units(ledger, reservation[RESERVATION_ITEMS], "reserved", "available")
  reservation[RESERVATION_STATE] = state
  ledger.reservations_changed[id] = true
  ledger.expiries_remove[#ledger.expiries_remove + 1] = id
  local ticket = ledger.tickets[reservation[RESERVATION_TICKET_ID]]
  if ticket then
    hold_units(ticket, reservation[RESERVATION_ITEMS], -1)
    finish_slot(ledger, reservation[RESERVATION_TICKET_ID], ticket)
  end
end

-- A paid order ends: its units go back on sale and its money goes back to the shopper.
local function take_back(ledger, id, reservation)
  move_units(ledger, reservation[RESERVATION_ITEMS], "sold", "available")
  reservation[RESERVATION_STATE] = STATE_CANCELLED
  ledger.reservations_changed[id] = true
  local ticket_id = reservation[RESERVATION_TICKET_ID]
  local ticket = ledger.tickets[ticket_id]
  if ticket then
    hold_units(ticket, reservation[RESERVATION_ITEMS], -1)
    ledger.tickets_changed[ticket_id] = true
  end
end

-- One self-contained step for the reconciler.
local TRANSITION_AMOUNT_MINOR, TRANSITION_PAYMENT_REFERENCE = 8, 11

local function record(ledger, kind, id, reservation, request_id, reason)
  ledger.transitions[#ledger.transitions + 1] = {
    kind, id, ledger.drop.now, request_id, reservation[RESERVATION_TICKET_ID], reservation[RESERVATION_NUMBER],
    reservation[RESERVATION_ITEMS], reservation[RESERVATION_AMOUNT_MINOR], reservation[RESERVATION_RESERVED_AT_MS],
    reservation[RESERVATION_EXPIRES_AT_MS], reservation[RESERVATION_PAYMENT_REFERENCE], reason,
  }
end

local function write_records(key, records, changed)
  local arguments, n, pack_record = {}, 0, cmsgpack.pack
  for id in pairs(changed) do
    arguments[n + 1], arguments[n + 2] = id, pack_record(records[id])
    n = n + 2
  end
  if n > 0 then redis.call("HSET", key, unpack(arguments)) end
end

-- Everything at once, under the next number of the sequence; nothing at all when nothing but totals changed.
local function ledger_write(ledger, keys)
  local stock = {}
  for sku in pairs(ledger.stock_changed) do
    local now = ledger.stock[sku]
    if now.draining > 0 then drain(ledger, sku) end
    local n = #stock
    stock[n + 1], stock[n + 2] = "available:" .. sku, now.available
    stock[n + 3], stock[n + 4] = "reserved:" .. sku, now.reserved
    stock[n + 5], stock[n + 6] = "sold:" .. sku, now.sold
    if now.draining > 0 or #ledger.stock_changes > 0 then
      stock[n + 7], stock[n + 8] = "allotment:" .. sku, now.allotment
      stock[n + 9], stock[n + 10] = "draining:" .. sku, now.draining
    end
  end
  local changes = {}
  if #ledger.transitions > 0 then changes[1], changes[2] = "e", cmsgpack.pack(ledger.transitions) end
  if #ledger.stock_changes > 0 then
    changes[#changes + 1] = "a"
    changes[#changes + 1] = cmsgpack.pack(ledger.stock_changes)
  end
  if #stock > 0 then redis.call("HSET", keys.stock, unpack(stock)) end
  if keys.tickets then write_tickets(ledger, keys.tickets) end
  write_records(keys.reservations, ledger.reservations, ledger.reservations_changed)
  if #ledger.expiries_remove > 0 then redis.call("ZREM", keys.expiries, unpack(ledger.expiries_remove)) end
  if #ledger.expiries_add > 0 then redis.call("ZADD", keys.expiries, unpack(ledger.expiries_add)) end
  if #ledger.slots_remove > 0 then redis.call("ZREM", keys.slots, unpack(ledger.slots_remove)) end
  -- An extended reservation may end after a later one: the slot is kept for the longest.
  if #ledger.slots_add > 0 then redis.call("ZADD", keys.slots, "GT", unpack(ledger.slots_add)) end
  -- Totals are for people only: one that cannot be counted must not keep the journal from being written.
  for name, by in pairs(ledger.stats) do redis.pcall("HINCRBY", keys.stats, name, by) end
  if #changes > 0 then
    local sequence = next_sequence(ledger.drop)
    redis.call("HSET", keys.drop, "sequence", sequence)
    redis.call("XADD", keys.journal, "*", "v", "1", "s", sequence, "epoch", ledger.drop.epoch, unpack(changes))
  end
end

-- True when nothing is left that could still be bought: every unit of every SKU is sold.
local function all_sold(ledger)
  for _, stock in pairs(ledger.stock) do
    if stock.available + stock.reserved > 0 then return false end
  end
  return true
end
