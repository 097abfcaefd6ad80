#!lua
-- Gives each shopper a place in the line, in the order of arrival.
-- KEYS[1] drop hash: state and the count of places given
-- KEYS[2] stock hash: whether anything is left to wait for
-- KEYS[3] tickets hash: ticket id to record
-- KEYS[4] restored hash: queue number from before a loss to the ticket that has it back
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] requests msgpack: array of {ticket_id, secret_hash} or, with the shopper's receipt of a place, {ticket_id,
--         secret_hash, {number, late, joined_at_ms, epoch}}
-- RETURNS msgpack {"done", now_ms, results, sequence}, each {outcome, number, late (0 or 1), joined_at_ms} or {outcome, at_ms};
--         or {"recovering", epoch, {}}
-- OUTCOMES joined replayed restored not_open closed sold_out room_full ticket_invalid recovering
-- COST O(requests)
-- INCLUDE arguments drop ledger places

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local ids, numbers = {}, {}
for i = 1, #requests do
  ids[i] = text(requests[i][1], 128, "ticket_id")
  text(requests[i][2], 64, "secret_hash")
  local claim = requests[i][3]
  if claim then
    numbers[#numbers + 1] = whole(claim[1], 0, 2 ^ 53, "number")
    whole(claim[2], 0, 1, "late")
    whole(claim[3], 0, 2 ^ 53, "joined_at_ms")
    whole(claim[4], 0, 2 ^ 53, "epoch")
  end
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_records(KEYS[3], ids, ledger.tickets)
redis.call("HLEN", KEYS[4])
local places = #numbers > 0 and places_open({drop = KEYS[1], restored = KEYS[4]}, drop, numbers)

local started = drop.effective == "open" or drop.effective == "paused"
local refusal
if drop.effective == "scheduled" then refusal = {"not_open", drop.joins_at_ms}
elseif drop.effective == "closed" then refusal = {"closed", drop.closes_at_ms}
elseif all_sold(ledger) then refusal = {"sold_out", drop.now} end
local entries = drop.entries
if started and entries == "" then entries = drop.joined end

local function fresh_ticket(number, late, secret_hash, joined_at_ms)
  return {number, late, secret_hash, joined_at_ms, "", 0, 0, 0, 0, 0, 0, {}}
end

local results = {}
for i = 1, #requests do
  local id, secret_hash, claim = ids[i], requests[i][2], requests[i][3]
  local ticket = ledger.tickets[id]
  if ticket and not knows_secret(ticket, secret_hash) then
    results[i] = {"ticket_invalid", 0}
  elseif ticket then
    results[i] = {"replayed", ticket[TICKET_NUMBER], ticket[TICKET_LATE], ticket[TICKET_JOINED_AT_MS]}
  elseif refusal then
    results[i] = refusal
  elseif claim and take_place(places, id, claim[1], claim[4]) then
    ledger.tickets[id] = fresh_ticket(claim[1], claim[2], secret_hash, claim[3])
    ledger.tickets_changed[id] = true
    results[i] = {"restored", claim[1], claim[2], claim[3]}
  elseif drop.joined >= drop.tickets_max then
    results[i] = {"room_full", drop.now}
  else
    local late = started and 1 or 0
    ledger.tickets[id] = fresh_ticket(drop.joined, late, secret_hash, drop.now)
    ledger.tickets_changed[id] = true
    results[i] = {"joined", drop.joined, late, drop.now}
    drop.joined = drop.joined + 1
  end
end

if next(ledger.tickets_changed) then
  write_records(KEYS[3], ledger.tickets, ledger.tickets_changed)
  if places and #places.given > 0 then redis.call("HSET", KEYS[4], unpack(places.given)) end
  redis.call("HSET", KEYS[1], "joined", drop.joined, "entries", entries, "sequence", next_sequence(drop),
    unpack(places and places_fields(places) or {}))
end
return done(drop, results)
