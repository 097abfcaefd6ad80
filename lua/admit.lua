#!lua
-- Exchanges a called ticket for an admission: a token id with its times, recorded in the shopper's ticket. Never more people
-- at once than the drop's capacity; whoever finds no slot goes to the head of the line, and nobody behind them goes first.
-- KEYS[1] drop hash: state, serving numbers, capacity
-- KEYS[2] stock hash: whether anything is left to buy
-- KEYS[3] tickets hash: ticket id to record
-- KEYS[4] called zset: places called whose shopper has not come yet, by the time of the call
-- KEYS[5] slots zset: places that count as active, by the time their slot lapses
-- KEYS[6] returning zset: places that were called and found no slot free
-- KEYS[7] served stream: the admission log
-- KEYS[8] flow hash: how the line has moved
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] requests msgpack: array of {ticket_id, fresh_token_id, place the caller takes it to have or -1, its queue place by the
--         draw or -1, the first 16 digits of that draw's key}
-- RETURNS msgpack {"done", now_ms, results, sequence}, each {outcome, token_id, issued_at_ms, expires_at_ms, queue place, ticket whose
--         place it is}, or {"not_yet", serving number, queue place}, or {"place", place}: to be asked again with its queue
--         place, or {outcome, at_ms}; or {"recovering", epoch, {}}
-- OUTCOMES admitted replayed not_yet place not_open paused closed sold_out ticket_invalid moved left removed recovering
-- COST O(requests log slots)
-- INCLUDE arguments drop ledger lines flow

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local ids = {}
for i = 1, #requests do
  ids[i] = text(requests[i][1], 128, "ticket_id")
  text(requests[i][2], 64, "fresh_token_id")
  whole(requests[i][3] or -1, -1, 2 ^ 53, "place")
  whole(requests[i][4] or -1, -1, 2 ^ 53, "queue place")
  text_or_empty(requests[i][5] or "", DRAW_MARK_CHARS, "mark of the draw")
end
local ledger, lines = ledger_new(drop), read_lines(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
read_tickets(ledger, KEYS[3], ids)
redis.call("ZCARD", KEYS[4])
local active, returning = redis.call("ZCARD", KEYS[5]), redis.call("ZCARD", KEYS[6])
redis.call("XLEN", KEYS[7])
redis.call("HLEN", KEYS[8])

local refusal
if drop.effective == "closed" then refusal = {"closed", drop.closes_at_ms}
elseif drop.effective == "paused" then refusal = {"paused", drop.now}
elseif drop.effective ~= "open" then refusal = {"not_open", drop.opens_at_ms}
elseif all_sold(ledger) then refusal = {"sold_out", drop.now} end

local turns, places = {}, {}
for i = 1, #ids do
  local why, ticket = ticket_of(ledger, ids[i])
  if not why then
    local turn = turn_of(drop, lines, ticket, requests[i][3] or -1, requests[i][4] or -1, requests[i][5] or "")
    turns[i] = turn
    if turn and is_called(lines, turn) then places[#places + 1] = turn end
  end
end
local free = math.min(drop.capacity - active, BATCH_MAX)
local head = (free > 0 and returning > 0) and redis.call("ZRANGE", KEYS[6], 0, free - 1) or {}
for i = 1, #head do head[i] = tonumber(head[i]) end
local has_slot, called_at = {}, {}
if #places > 0 then
  local scores, calls = redis.call("ZMSCORE", KEYS[5], unpack(places)), redis.call("ZMSCORE", KEYS[4], unpack(places))
  for i = 1, #places do has_slot[places[i]], called_at[places[i]] = scores[i] and true, calls[i] and tonumber(calls[i]) end
end

local claimed, waits, came, back, uncalled, unreturned, admitted = {}, {}, {}, {}, {}, {}, 0

-- Whoever was called and comes is counted once, although there may be no slot for them yet.
local function come(place)
  if not called_at[place] then return end
  uncalled[#uncalled + 1] = place
  came[#came + 1] = age_ms_of(drop, called_at[place])
  called_at[place] = nil
end

local inside = {}

-- Whether a slot is free for `place` although those before it in `returning` go first.
local function finds_slot(place)
  local before = 0
  if free <= 0 then return false end
  for i = 1, #head do
    if head[i] < place and not inside[head[i]] then before = before + 1 end
  end
  return free > before
end

local function admit(ticket, own, place, token_id)
  local expires_at_ms = drop.now + drop.token_ttl_ms
  ticket[TICKET_TOKEN_ID], ticket[TICKET_TOKEN_ISSUED_AT_MS], ticket[TICKET_TOKEN_EXPIRES_AT_MS] = token_id, drop.now, expires_at_ms
  if ticket[TICKET_ADMITTED_AT_MS] == 0 then
    ticket[TICKET_ADMITTED_AT_MS] = drop.now
    admitted = admitted + 1
    claimed[admitted] = place
    waits[admitted] = called_at[place] and math.max(0, drop.now - called_at[place]) or -1
  end
  if place ~= ticket[TICKET_PLACE] then ticket[TICKET_TURN] = place end
  ledger.tickets_changed[own] = true
  if not has_slot[place] then free, has_slot[place] = free - 1, true end
  inside[place] = true
  local n = #ledger.slots_add
  ledger.slots_add[n + 1], ledger.slots_add[n + 2] = drop.now + drop.claim_window_ms, place
  come(place)
  return {"admitted", token_id, drop.now, expires_at_ms, place, own}
end

local results = {}
for i = 1, #requests do
  local why, ticket, own = ticket_of(ledger, ids[i])
  local place = turns[i]
  if why then
    results[i] = {why == "not_found" and "ticket_invalid" or why, 0}
  elseif ticket[TICKET_TOKEN_ID] ~= "" and drop.now < ticket[TICKET_TOKEN_EXPIRES_AT_MS] then
    results[i] = {
      "replayed", ticket[TICKET_TOKEN_ID], ticket[TICKET_TOKEN_ISSUED_AT_MS], ticket[TICKET_TOKEN_EXPIRES_AT_MS],
      slot_of(ticket), own,
    }
  elseif refusal then
    results[i] = refusal
  elseif not place then
    local line = lines[line_of(ticket[TICKET_PLACE])]
    results[i] = is_drawn(drop, line) and {"place", ticket[TICKET_PLACE]} or {"not_yet", line.serving, -1}
  elseif not is_called(lines, place) then
    results[i] = {"not_yet", lines[line_of(place)].serving, place % LINE_STRIDE}
  elseif not has_slot[place] and not finds_slot(place) then
    local n = #back
    back[n + 1], back[n + 2] = place, place
    come(place)
    results[i] = {"not_yet", lines[line_of(place)].serving, place % LINE_STRIDE}
  else
    results[i] = admit(ticket, own, place, requests[i][2])
    unreturned[#unreturned + 1] = place
  end
end

write_tickets(ledger, KEYS[3])
if #uncalled > 0 then redis.call("ZREM", KEYS[4], unpack(uncalled)) end
if #ledger.slots_add > 0 then
  redis.call("HSET", KEYS[1], "admitted", drop.admitted + admitted, "sequence", next_sequence(drop))
  redis.call("ZADD", KEYS[5], "GT", unpack(ledger.slots_add))
  redis.call("ZREM", KEYS[6], unpack(unreturned))
end
if #back > 0 then redis.call("ZADD", KEYS[6], unpack(back)) end
flow_claims(KEYS[8], came)
flow_add(KEYS[8], "entered", admitted)
if admitted > 0 then
  redis.call("XADD", KEYS[7], "*", "at_ms", string.format("%d", drop.now), "k", "claimed", "p", cmsgpack.pack(claimed), "w", cmsgpack.pack(waits))
end
return done(drop, results)
