#!lua flags=no-writes
-- One consistent look at a drop: its definition, the picture everybody sees, totals, and records by id when asked for.
-- KEYS[1] drop hash: definition, state, counters
-- KEYS[2] stock hash: units
-- KEYS[3] tickets hash: ticket id to record
-- KEYS[4] reservations hash: reservation id to record
-- KEYS[5] expiries zset: live reservations by expiry
-- KEYS[6] slots zset: queue numbers that count as active
-- KEYS[7] returning zset: served numbers that wait for a slot again
-- KEYS[8] stats hash: totals for people
-- KEYS[9] journal stream: its length
-- KEYS[10] called zset: places called whose shopper has not come yet
-- KEYS[11] leaving zset: places given up before the draw
-- KEYS[12] standby zset: places of shoppers who found everything reserved
-- KEYS[13] flow hash: how the line has moved
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] wanted msgpack: {ticket ids, reservation ids}, at most 1024 of each
-- RETURNS msgpack {"done", now_ms, {"found", definition, snapshot, stats (name, total, …), journal length, tickets,
--         reservations}, sequence}, records in the order asked for, false where there is none; or {"recovering", epoch, {}}
-- OUTCOMES found recovering
-- COST O(SKUs + ids)
-- INCLUDE arguments drop ledger lines flow snapshot

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local wanted = unpack_array(ARGV[2], 2, "wanted")
local ledger = ledger_new(drop)
local definition = redis.call("HGET", KEYS[1], "definition")
if not definition or not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end

local function records(key, ids)
  if type(ids) ~= "table" or #ids > BATCH_MAX then bad_argument("ids must be an array of at most " .. BATCH_MAX) end
  local found, list = {}, {}
  for i = 1, #ids do text(ids[i], 128, "id") end
  read_records(key, ids, found)
  for i = 1, #ids do list[i] = found[ids[i]] or false end
  return list
end

-- Whole tickets; of one that shares another's place, that one's. The last element is the id of the ticket whose place it is.
local function tickets(ids)
  if type(ids) ~= "table" or #ids > BATCH_MAX then bad_argument("ids must be an array of at most " .. BATCH_MAX) end
  local list = {}
  for i = 1, #ids do text(ids[i], 128, "id") end
  read_tickets(ledger, KEYS[3], ids)
  for i = 1, #ids do
    local own = ledger.of[ids[i]] or ids[i]
    local ticket = ledger.tickets[own]
    list[i] = ticket and {own, ticket} or false
  end
  return list
end

return done(drop, {
  "found", definition, snapshot(ledger, read_lines(drop), {
    slots = KEYS[6], returning = KEYS[7], expiries = KEYS[5], stats = KEYS[8], called = KEYS[10], leaving = KEYS[11],
    standby = KEYS[12], flow = KEYS[13], journal = KEYS[9],
  }),
  redis.call("HGETALL", KEYS[8]), redis.call("XLEN", KEYS[9]), tickets(wanted[1]),
  records(KEYS[4], wanted[2]),
})
