#!lua
-- Gives each shopper a place in the line, in the order of arrival.
-- KEYS[1] drop hash: state and the count of places given
-- KEYS[2] stock hash: whether anything is left to wait for
-- KEYS[3] tickets hash: ticket id to record
-- KEYS[4] restored hash: place from before a loss to the ticket that has it back
-- KEYS[5] identities hash: digest of an identity to the ticket that has its place
-- KEYS[6] codes hash: invite code's id to how often it was used
-- KEYS[7] entries stream: secret hashes of those who are in the draw
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] requests msgpack: array of {ticket_id, secret_hash} or {ticket_id, secret_hash, options}; secret_hash has 32 bytes where
--         there is a draw; options is a map of those that apply: claim {place, late, joined_at_ms, epoch, ticket whose place it is}
--         of the shopper's receipt, the last only where it is another device's; line (0), identity (digest), code {id, uses_max},
--         handoff (the ticket whose place moves to this one)
-- RETURNS msgpack {"done", now_ms, results, sequence}, each {outcome, place, late (0 or 1), joined_at_ms, ticket whose place it
--         is} or {outcome, at_ms}; or {"recovering", epoch, {}}
-- OUTCOMES joined replayed restored taken_over not_open closed sold_out room_full joining_closed code_used moved left removed handoff_used devices_full not_found recovering
-- COST O(requests)
-- INCLUDE arguments drop ledger lines places

local ENTRY_BYTES = 32
-- Other devices that may know a place; each is a record of its own.
local DEVICES_MAX = 20

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local requests = unpack_array(ARGV[2], BATCH_MAX, "requests")
local lines = read_lines(drop)
local ids, numbers, identities, codes, others = {}, {}, {}, {}, {}
for i = 1, #requests do
  ids[i] = text(requests[i][1], 128, "ticket_id")
  text(requests[i][2], 64, "secret_hash")
  if drop.order == "draw" and #requests[i][2] ~= ENTRY_BYTES then bad_argument("secret_hash must have 32 bytes") end
  local options = requests[i][3]
  if options then
    if type(options) ~= "table" then bad_argument("options must be a map") end
    local claim = options.claim
    if claim then
      numbers[#numbers + 1] = whole(claim[1], 0, 2 ^ 53, "place")
      whole(claim[2], 0, 1, "late")
      whole(claim[3], 0, 2 ^ 53, "joined_at_ms")
      whole(claim[4], 0, 2 ^ 53, "epoch")
      if claim[5] then others[#others + 1] = text(claim[5], 128, "ticket of the receipt") end
    end
    whole(options.line or 0, 0, #lines, "line")
    if options.identity then identities[#identities + 1] = text(options.identity, 64, "identity") end
    if options.code then
      codes[#codes + 1] = text(options.code[1], 64, "code")
      whole(options.code[2], 1, 1e6, "uses_max")
    end
    if options.handoff then others[#others + 1] = text(options.handoff, 128, "handoff") end
  end
end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end

-- Values of a hash by field, in one command.
local function values_of(key, fields)
  local found, values = {}, #fields > 0 and redis.call("HMGET", key, unpack(fields)) or {}
  for i = 1, #fields do found[fields[i]] = values[i] or nil end
  return found
end

redis.call("HLEN", KEYS[4])
redis.call("HLEN", KEYS[5])
redis.call("HLEN", KEYS[6])
redis.call("XLEN", KEYS[7])
local places = #numbers > 0 and places_open({drop = KEYS[1], restored = KEYS[4]}, lines, numbers)
local owner_of, used = values_of(KEYS[5], identities), values_of(KEYS[6], codes)
local wanted = {unpack(ids)}
for i = 1, #others do wanted[#wanted + 1] = others[i] end
for _, ticket_id in pairs(owner_of) do wanted[#wanted + 1] = ticket_id end
read_tickets(ledger, KEYS[3], wanted)

local started = drop.effective == "open" or drop.effective == "paused"
local refusal
if drop.effective == "scheduled" then refusal = {"not_open", drop.joins_at_ms}
elseif drop.effective == "closed" then refusal = {"closed", drop.closes_at_ms}
elseif all_sold(ledger) then refusal = {"sold_out", drop.now}
elseif drop.joining == "closed" then refusal = {"joining_closed", drop.now} end
if started then fix_entries(lines) end

local total, entered = joined_in_all(lines), {}
local identities_new, codes_new = {}, {}

local function place_of(outcome, own)
  local ticket = ledger.tickets[own]
  return {outcome, ticket[TICKET_PLACE], ticket[TICKET_LATE], ticket[TICKET_JOINED_AT_MS], own}
end

-- A second device of the same place: its ticket only names the one the place belongs to.
local function share_place(id, own)
  local ticket = ledger.tickets[own]
  ticket[TICKET_SHARED], ledger.tickets_changed[own] = ticket[TICKET_SHARED] + 1, true
  ledger.of[id], ledger.of_changed[id] = own, true
end

local function join_device(id, own)
  if ledger.tickets[own][TICKET_SHARED] >= DEVICES_MAX then return {"devices_full", drop.now} end
  share_place(id, own)
  return place_of("replayed", own)
end

local function take_over(id, giver)
  local why, ticket, own = ticket_of(ledger, giver)
  if why then return {why == "moved" and "handoff_used" or why, drop.now} end
  if own ~= giver or ticket[TICKET_HOLDER] ~= "" then return {"handoff_used", drop.now} end
  ticket[TICKET_HOLDER], ledger.tickets_changed[own] = id, true
  share_place(id, own)
  return place_of("taken_over", own)
end

local function enter(place, secret_hash)
  if drop.order ~= "draw" then return end
  local at = line_of(place)
  local run = entered[#entered]
  if not run or run.line ~= at or run.to ~= place then
    run = {line = at, from = place, to = place, hashes = {}}
    entered[#entered + 1] = run
  end
  run.hashes[#run.hashes + 1], run.to = secret_hash, place + 1
end

local function code_left(code)
  return tonumber(used[code[1]] or "0") < code[2]
end

-- What the receipt says of a ticket that came back without its shopper: when it joined, and with which secret hash.
local function remember(id, claim, secret_hash)
  local ticket = ledger.tickets[id]
  if not claim or not ticket or claim[4] >= drop.epoch or claim[1] ~= ticket[TICKET_PLACE] or ticket[TICKET_JOINED_AT_MS] > 0 then return end
  ticket[TICKET_JOINED_AT_MS], ledger.tickets_changed[id] = claim[3], true
  if ticket[TICKET_LATE] == 0 then enter(claim[1], secret_hash) end
end

local function place_anew(id, secret_hash, options)
  local claim, code, identity = options.claim, options.code, options.identity
  local own = claim and claim[5] or id
  local outcome, place, late, joined_at_ms = "joined", nil, started and 1 or 0, drop.now
  if claim and take_place(places, drop, own, claim[1], claim[4]) then
    outcome, place, late = "restored", claim[1], claim[2]
    -- Only the ticket's own device knows with which secret hash it joined: see remember.
    joined_at_ms = own == id and claim[3] or 0
    -- A place that nobody remembered when the entries were fixed is not in the draw: it comes behind those that are.
    local entries = lines[line_of(place)].entries
    if entries and place % LINE_STRIDE >= entries then late = 1 end
  elseif total >= drop.tickets_max then
    return {"room_full", drop.now}
  elseif code and not code_left(code) then
    return {"code_used", drop.now}
  else
    local at = options.line or 0
    local line = lines[at]
    place = at * LINE_STRIDE + line.joined
    line.joined, total = line.joined + 1, total + 1
    if code then
      used[code[1]] = tonumber(used[code[1]] or "0") + 1
      codes_new[code[1]] = used[code[1]]
    end
  end
  if outcome == "joined" then own = id end
  local ticket = fresh_ticket(place, late, joined_at_ms)
  if identity then
    ticket[TICKET_IDENTITY], owner_of[identity], identities_new[identity] = identity, own, own
  end
  ledger.tickets[own], ledger.tickets_changed[own] = ticket, true
  if own ~= id then share_place(id, own) elseif late == 0 then enter(place, secret_hash) end
  return place_of(outcome, own)
end

-- Where an identity has its place: the ticket it belongs to, wherever that was handed; nil when it has none. Second: whether it
-- may not have one again.
local function place_of_identity(identity)
  local owner = identity and owner_of[identity]
  if not owner then return nil, false end
  local why = ticket_of(ledger, owner)
  return (not why or why == "moved") and (ledger.of[owner] or owner) or nil, why == "removed"
end

-- The ticket whose place the receipt of a second device names, when it is there; second: why it has no place any more, or nil.
local function ticket_of_receipt(claim)
  local own = claim and claim[4] < drop.epoch and claim[5]
  if not own or not ledger.tickets[own] then return nil, nil end
  local why = ticket_of(ledger, own)
  return own, why ~= "moved" and why or nil
end

local NONE = {}
local results = {}
for i = 1, #requests do
  local id, options = ids[i], requests[i][3] or NONE
  local why, _, own = ticket_of(ledger, id)
  local whose, removed = place_of_identity(options.identity)
  local shared, ended = ticket_of_receipt(options.claim)
  if not why then
    remember(id, options.claim, requests[i][2])
    results[i] = place_of("replayed", own)
  elseif why ~= "not_found" then
    results[i] = {why, drop.now}
  elseif options.handoff then
    results[i] = take_over(id, options.handoff)
  elseif whose then
    results[i] = join_device(id, whose)
  elseif ended then
    results[i] = {ended, drop.now}
  elseif shared then
    results[i] = join_device(id, shared)
  elseif removed then
    results[i] = {"removed", drop.now}
  else
    results[i] = refusal or place_anew(id, requests[i][2], options)
  end
end

local function write_hash(key, changed)
  local pairs_of = {}
  for name, value in pairs(changed) do pairs_of[#pairs_of + 1], pairs_of[#pairs_of + 2] = name, value end
  if #pairs_of > 0 then redis.call("HSET", key, unpack(pairs_of)) end
end

if next(ledger.tickets_changed) or next(ledger.of_changed) then
  write_tickets(ledger, KEYS[3])
  write_hash(KEYS[5], identities_new)
  write_hash(KEYS[6], codes_new)
  -- Given back after the entries were fixed: it has no part in what is drawn, and only tells what a loss has swallowed.
  local again = started and {"again", "1"} or {}
  for i = 1, #entered do
    local run = entered[i]
    redis.call("XADD", KEYS[7], "*", "l", run.line, "n", run.from % LINE_STRIDE, "h", table.concat(run.hashes), unpack(again))
  end
  if places and #places.given > 0 then redis.call("HSET", KEYS[4], unpack(places.given)) end
  local fields = lines_fields(lines, {"sequence", next_sequence(drop)})
  if places then places_fields(places, fields) end
  redis.call("HSET", KEYS[1], unpack(fields))
end
return done(drop, results)
