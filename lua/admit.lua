#!lua
-- Exchanges a served ticket for an admission: a token id with its times, recorded in the shopper's ticket.
-- KEYS[1] drop hash: state, serving number, capacity
-- KEYS[2] stock hash: whether anything is left to buy
-- KEYS[3] tickets hash: ticket id to record
-- KEYS[4] slots zset: queue numbers that count as active
-- KEYS[5] returning zset: served numbers that wait for a slot again
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] requests msgpack: array of {ticket_id, secret_hash, fresh_token_id}
-- RETURNS msgpack {"done", now_ms, results, sequence}, each {outcome, token_id, issued_at_ms, expires_at_ms, number}, or
--         {"not_yet", serving_number, number}, or {outcome, at_ms}; or {"recovering", epoch, {}}
-- OUTCOMES admitted replayed not_yet not_open paused closed sold_out ticket_invalid recovering
-- COST O(requests log slots)
-- INCLUDE arguments drop ledger

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local ids = {}
for i = 1, #requests do
  ids[i] = text(requests[i][1], 128, "ticket_id")
  text(requests[i][2], 64, "secret_hash")
  text(requests[i][3], 64, "fresh_token_id")
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_records(KEYS[3], ids, ledger.tickets)
local active = redis.call("ZCARD", KEYS[4])
redis.call("ZCARD", KEYS[5])

local refusal
if drop.effective == "closed" then refusal = {"closed", drop.closes_at_ms}
elseif drop.effective == "paused" then refusal = {"paused", drop.now}
elseif drop.effective ~= "open" then refusal = {"not_open", drop.opens_at_ms}
elseif all_sold(ledger) then refusal = {"sold_out", drop.now} end

local served, numbers = {}, {}
for i = 1, #ids do
  local ticket = ledger.tickets[ids[i]]
  if ticket and ticket[TICKET_NUMBER] < drop.serving_number then numbers[#numbers + 1] = ticket[TICKET_NUMBER] end
end
if #numbers > 0 then
  local scores = redis.call("ZMSCORE", KEYS[4], unpack(numbers))
  for i = 1, #numbers do served[numbers[i]] = scores[i] and true or false end
end

local results, waiting_again, admitted = {}, {}, 0
for i = 1, #requests do
  local id, ticket = ids[i], ledger.tickets[ids[i]]
  local number = ticket and ticket[TICKET_NUMBER]
  if not ticket or not knows_secret(ticket, requests[i][2]) then
    results[i] = {"ticket_invalid", 0}
  elseif ticket[TICKET_TOKEN_ID] ~= "" and drop.now < ticket[TICKET_TOKEN_EXPIRES_AT_MS] then
    results[i] = {
      "replayed", ticket[TICKET_TOKEN_ID], ticket[TICKET_TOKEN_ISSUED_AT_MS], ticket[TICKET_TOKEN_EXPIRES_AT_MS], number,
    }
  elseif refusal then
    results[i] = refusal
  elseif number >= drop.serving_number then
    results[i] = {"not_yet", drop.serving_number, number}
  elseif not served[number] and active >= drop.capacity then
    local n = #waiting_again
    waiting_again[n + 1], waiting_again[n + 2] = number, number
    results[i] = {"not_yet", drop.serving_number, number}
  else
    if not served[number] then
      served[number] = true
      active = active + 1
    end
    local expires_at_ms = drop.now + drop.token_ttl_ms
    ticket[TICKET_TOKEN_ID] = requests[i][3]
    ticket[TICKET_TOKEN_ISSUED_AT_MS] = drop.now
    ticket[TICKET_TOKEN_EXPIRES_AT_MS] = expires_at_ms
    if ticket[TICKET_ADMITTED_AT_MS] == 0 then
      ticket[TICKET_ADMITTED_AT_MS] = drop.now
      admitted = admitted + 1
    end
    ledger.tickets_changed[id] = true
    local n = #ledger.slots_add
    ledger.slots_add[n + 1], ledger.slots_add[n + 2] = drop.now + drop.claim_window_ms, number
    ledger.slots_remove[#ledger.slots_remove + 1] = number
    results[i] = {"admitted", requests[i][3], drop.now, expires_at_ms, number}
  end
end

write_records(KEYS[3], ledger.tickets, ledger.tickets_changed)
if #ledger.slots_add > 0 then
  redis.call("HSET", KEYS[1], "admitted", drop.admitted + admitted, "sequence", next_sequence(drop))
  redis.call("ZADD", KEYS[4], "GT", unpack(ledger.slots_add))
  redis.call("ZREM", KEYS[5], unpack(ledger.slots_remove))
end
if #waiting_again > 0 then redis.call("ZADD", KEYS[5], unpack(waiting_again)) end
return done(drop, results)
