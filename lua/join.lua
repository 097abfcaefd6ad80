#!lua
-- Gives each shopper a place in the line, in the order of arrival.
-- KEYS[1] drop hash: state and the count of places given
-- KEYS[2] stock hash: whether anything is left to wait for
-- KEYS[3] tickets hash: ticket id to record
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] requests msgpack: array of {ticket_id, secret_hash}
-- RETURNS msgpack {"done", now_ms, results, sequence}, each {outcome, number, late (0 or 1), joined_at_ms} or {outcome, at_ms};
--         or {"recovering", epoch, {}}
-- OUTCOMES joined replayed not_open closed sold_out room_full ticket_invalid recovering
-- COST O(requests)
-- INCLUDE arguments drop ledger

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local ids = {}
for i = 1, #requests do
  ids[i] = text(requests[i][1], 128, "ticket_id")
  text(requests[i][2], 64, "secret_hash")
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_records(KEYS[3], ids, ledger.tickets)

local started = drop.effective == "open" or drop.effective == "paused"
local refusal
if drop.effective == "scheduled" then refusal = {"not_open", drop.joins_at_ms}
elseif drop.effective == "closed" then refusal = {"closed", drop.closes_at_ms}
elseif all_sold(ledger) then refusal = {"sold_out", drop.now} end
local entries = drop.entries
if started and entries == "" then entries = drop.joined end

local results, joined = {}, drop.joined
for i = 1, #requests do
  local id, secret_hash = ids[i], requests[i][2]
  local ticket = ledger.tickets[id]
  if ticket and ticket[TICKET_SECRET_HASH] ~= secret_hash then
    results[i] = {"ticket_invalid", 0}
  elseif ticket then
    results[i] = {"replayed", ticket[TICKET_NUMBER], ticket[TICKET_LATE], ticket[TICKET_JOINED_AT_MS]}
  elseif refusal then
    results[i] = refusal
  elseif joined >= drop.tickets_max then
    results[i] = {"room_full", drop.now}
  else
    local late = started and 1 or 0
    ledger.tickets[id] = {joined, late, secret_hash, drop.now, "", 0, 0, 0, 0, 0, 0, {}}
    ledger.tickets_changed[id] = true
    results[i] = {"joined", joined, late, drop.now}
    joined = joined + 1
  end
end

if joined > drop.joined then
  write_records(KEYS[3], ledger.tickets, ledger.tickets_changed)
  redis.call("HSET", KEYS[1], "joined", joined, "entries", entries, "sequence", next_sequence(drop))
end
return done(drop, results)
