#!lua
-- One beat of the inlet: lets time take its effect on the drop, frees lapsed slots, calls the next in line.
-- Whoever comes first in a beat does the work; everyone gets the picture.
-- KEYS[1] drop hash: state, rate, capacity, serving numbers, beat
-- KEYS[2] stock hash: what is left
-- KEYS[3] called zset: places called whose shopper has not come yet, by the time of the call
-- KEYS[4] slots zset: places that count as active, by the time their slot lapses
-- KEYS[5] returning zset: places that were called and found no slot; they go before anyone new
-- KEYS[6] gone zset: places given up; they are not called
-- KEYS[7] leaving zset: places given up before the draw, for the picture
-- KEYS[8] standby zset: places of shoppers who found everything reserved
-- KEYS[9] wants hash: place in standby to what it waits for
-- KEYS[10] offers zset: places in standby whose turn it is, by the time it ends
-- KEYS[11] served stream: the admission log
-- KEYS[12] samples stream: the serving document now and then, for the report
-- KEYS[13] flow hash: how the line has moved
-- KEYS[14] expiries zset: live reservations, for the picture
-- KEYS[15] stats hash: totals for people
-- KEYS[16] journal stream: changes of the drop's state
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] pace msgpack: {beat_ms, rate_per_min} or {beat_ms, rate_per_min, weights, units_per_claim, door, sample, stays}; a negative rate
--         means the drop's own; weights: for each age of a call, how many of a thousand will still come; units_per_claim: how
--         many units a thousand who come take; door: people to call beyond the free slots; sample: the serving document now;
--         stays: for each age of a stay, how many of a thousand newcomers as many people inside who have not chosen stand for
-- RETURNS msgpack {"done", now_ms, {outcome, snapshot}, sequence}, or {"recovering", epoch, {}}
-- OUTCOMES advanced held recovering
-- COST O(called in this beat log line), at most 1000
-- INCLUDE arguments drop ledger lines flow standby snapshot

local CALLS_MAX = 1000
local CREDIT_SPAN_MS = 2000
local SAMPLE_EVERY_MS, SAMPLES_MAX, SAMPLE_BYTES_MAX = 2000, 20000, 16384

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local pace = unpack_array(ARGV[2], 7, "pace")
local beat_ms = whole(pace[1], 10, 60000, "beat_ms")
local rate_per_min = whole(pace[2], -1, 1e9, "rate_per_min")
if rate_per_min < 0 then rate_per_min = drop.rate_per_min end
local weights, units_per_claim = pace[3] or {}, whole(pace[4] or 0, 0, 1e9, "units_per_claim")
local door = whole(pace[5] or 0, 0, 1e6, "door")
for bucket = 1, #CALL_AGES_MS + 1 do weights[bucket] = whole(weights[bucket] or 1000, 0, 1000, "weight") end
local stays = pace[7] or {}
for bucket = 1, #PART_AGES do stays[bucket] = whole(stays[bucket] or 1000, 0, 1000, "stay") end
local sample = text_or_empty(pace[6] or "", SAMPLE_BYTES_MAX, "sample")
local ledger, lines = ledger_new(drop), read_lines(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
local keys = {
  called = KEYS[3], slots = KEYS[4], returning = KEYS[5], leaving = KEYS[7], standby = KEYS[8], wants = KEYS[9], offers = KEYS[10],
  flow = KEYS[13], expiries = KEYS[14], stats = KEYS[15], journal = KEYS[16],
}
check_types(KEYS[14], KEYS[4], KEYS[15], KEYS[16])
redis.call("ZCARD", KEYS[3])
redis.call("ZCARD", KEYS[6])
redis.call("ZCARD", KEYS[7])
redis.call("HLEN", KEYS[9])
redis.call("XLEN", KEYS[11])
redis.call("XLEN", KEYS[12])
local returning, standing = redis.call("ZCARD", KEYS[5]), redis.call("ZCARD", KEYS[8])
local flow = redis.call("HMGET", KEYS[13], "called", "progress", "cut_at_ms", "sampled_at_ms", "wanted")

local beat = math.floor(drop.now / beat_ms)
-- After a failover to a server whose clock is behind, the line would stand still until the old time came again.
local clock_went_back = drop.now + CREDIT_SPAN_MS < drop.advanced_at_ms
if beat <= drop.beat and not clock_went_back then return done(drop, {"held", snapshot(ledger, lines, keys)}) end

local fields = {"beat", beat, "advanced_at_ms", drop.now}
local function set(name, value)
  fields[#fields + 1], fields[#fields + 2] = name, value
  drop[name] = value
end

local changed = drop.effective ~= drop.state
if changed then
  set("state", drop.effective)
  set("state_at_ms", drop.now)
end
if drop.now >= drop.opens_at_ms then fix_entries(lines) end

local open, sold = drop.effective == "open", all_sold(ledger)
local lapsed_ms = begun_ms(drop, drop.claim_window_ms)
local lapsed = open and redis.call("ZRANGEBYSCORE", KEYS[4], "-inf", lapsed_ms + drop.claim_window_ms, "LIMIT", 0, CALLS_MAX) or {}
local active = redis.call("ZCARD", KEYS[4]) - #lapsed
local free, back = drop.capacity - active, {}
if open and not sold and free > 0 then back = redis.call("ZRANGE", KEYS[5], 0, math.min(free, CALLS_MAX) - 1) end

local function waiting_in(line)
  return is_drawn(drop, line) and line.joined - line.serving or 0
end

-- How many of those who were called and have not come are still expected.
local function expected()
  local by_age, total = flow_called_by_age(KEYS[3], drop), 0
  for bucket = 1, #by_age do total = total + by_age[bucket] * weights[bucket] / 1000 end
  return total
end

local standers = open and standby_all(keys, standing) or {}
local hopeless, wanted_units = standby_prospects(standers, drop.skus, ledger.stock)
local waiting = standby_fitting(standers, ledger.stock)
local fitting, left = standby_share(waiting, ledger.stock)

-- How many more people there are units for: those who are in and have not chosen, or wait for what is there, come first. Who
-- has been in for long without choosing will rather not, and stands for less than a newcomer.
local function takers()
  if units_per_claim == 0 then return math.huge end
  local available = 0
  for _, units in pairs(left) do available = available + units end
  if available == 0 then return 0 end
  local undecided, deciding = flow_undecided(KEYS[4], KEYS[14], drop), #back
  for bucket = 1, #PART_AGES do deciding = deciding + undecided[bucket] * stays[bucket] / 1000 end
  return math.max(1, available * 1000 / units_per_claim) - deciding
end

local called_now, calls, runs = 0, {}, {}

-- Calls up to `count` people of a line, passing over those who gave up. Answers how many it called.
local function call_line(at, count)
  local line, called = lines[at], 0
  local place, past = at * LINE_STRIDE + line.serving, at * LINE_STRIDE + line.joined
  if count <= 0 or waiting_in(line) == 0 then return 0 end
  local gone = redis.call("ZRANGEBYSCORE", KEYS[6], string.format("%d", place), string.format("(%d", past), "LIMIT", 0, CALLS_MAX)
  -- Who is gone beyond those that were read is the next beat's to see.
  if #gone == CALLS_MAX then past = tonumber(gone[CALLS_MAX]) + 1 end
  runs[at] = runs[at] or {from = place}
  local passed = 1
  while called < count and place < past do
    if gone[passed] and tonumber(gone[passed]) == place then
      passed = passed + 1
    else
      called = called + 1
      calls[#calls + 1], calls[#calls + 2] = drop.now, place
    end
    place = place + 1
  end
  line.serving, runs[at].to, called_now = place % LINE_STRIDE, place, called_now + called
  return called
end

-- A group gets its share of the calls while anybody waits in it; what it does not use goes to the others and is not saved up.
local function divide(count)
  local left = count
  for at = 1, #lines do
    local line = lines[at]
    line.credit = math.min(line.credit + count * line.share, 1000 * CALLS_MAX)
    local called = call_line(at, math.min(math.floor(line.credit / 1000), left))
    left, line.credit = left - called, waiting_in(line) > 0 and line.credit - 1000 * called or 0
  end
  for at = 0, #lines do left = left - call_line(at, left) end
end

local turns
if open then
  -- A drop that was opened before its time, lost, and recovered from an earlier picture is open although its time is to come.
  local opened_at_ms = drop.opens_at_ms <= drop.now and drop.opens_at_ms or 0
  local since_ms = drop.advanced_at_ms > 0 and drop.now - math.max(drop.advanced_at_ms, opened_at_ms) or 0
  since_ms = math.max(0, math.min(since_ms, CREDIT_SPAN_MS))
  local credit_max = rate_per_min > 0 and math.max(1, rate_per_min * CREDIT_SPAN_MS / 60000) or 0
  local credit = math.min(drop.credit + rate_per_min * since_ms / 60000, credit_max)
  local comers = math.min(free + door - #back, takers()) - expected() - (returning - #back)
  local wanted = math.floor(comers * 1000 / math.max(1, weights[1]) + 1e-6)
  if not sold then divide(math.max(0, math.min(wanted, math.floor(credit), CALLS_MAX))) end
  set("credit", string.format("%.6f", credit - called_now))
  turns = standby_turns(keys, waiting, fitting, drop)
end
local called = (tonumber(flow[1] or "") or 0) + called_now
local progress = open and flow_progress(flow[2], drop.now, called)
local sampled_at_ms = tonumber(flow[4] or "") or 0
local sampled = sample ~= "" and (drop.now >= sampled_at_ms + SAMPLE_EVERY_MS or drop.now + CREDIT_SPAN_MS < sampled_at_ms)

-- An entry of the admission log.
local function log(...)
  redis.call("XADD", KEYS[11], "*", "at_ms", string.format("%d", drop.now), ...)
end

if #lapsed > 0 then
  redis.call("ZREM", KEYS[4], unpack(lapsed))
  redis.pcall("HINCRBY", KEYS[15], "slots_lapsed", #lapsed)
  flow_add(KEYS[13], "ended", #lapsed)
end
-- Whoever comes later than the claim window is still let in, from the head of the line; nobody waits for them any more.
if open then redis.call("ZREMRANGEBYSCORE", KEYS[3], "-inf", string.format("%d", lapsed_ms)) end
if turns then
  standby_write(keys, turns)
  standby_leave(keys, hopeless)
  local wanted = cmsgpack.pack(wanted_units)
  if (standing > 0 or flow[5]) and wanted ~= flow[5] then redis.call("HSET", KEYS[13], "wanted", wanted) end
end
if #back > 0 then
  local slots, places = {}, {}
  for i = 1, #back do
    slots[2 * i - 1], slots[2 * i], places[i] = drop.now + drop.claim_window_ms, back[i], tonumber(back[i])
  end
  redis.call("ZADD", KEYS[4], unpack(slots))
  redis.call("ZREM", KEYS[5], unpack(back))
  log("k", "returned", "p", cmsgpack.pack(places))
end
if #calls > 0 then redis.call("ZADD", KEYS[3], unpack(calls)) end
local moved = false
for at = 0, #lines do
  local run = runs[at]
  if run and run.to > run.from then
    redis.call("ZREMRANGEBYSCORE", KEYS[6], string.format("%d", run.from), string.format("(%d", run.to))
    log("from", run.from, "to", run.to)
    moved = true
  end
end
flow_add(KEYS[13], "called", called_now)
-- Once, when nothing is left that could come back: who is not served by then never will be, unless units are added.
if open and sold and not flow[3] then
  local places = {}
  for at = 0, #lines do places[at + 1] = at * LINE_STRIDE + lines[at].serving end
  redis.call("HSET", KEYS[13], "cut_at_ms", string.format("%d", drop.now))
  log("k", "cut", "p", cmsgpack.pack(places), "why", "sold_out")
elseif open and not sold and flow[3] then
  redis.call("HDEL", KEYS[13], "cut_at_ms")
end
if sampled then
  redis.call("XADD", KEYS[12], "MAXLEN", SAMPLES_MAX, "*", "d", sample)
  redis.call("HSET", KEYS[13], "sampled_at_ms", string.format("%d", drop.now))
end
if progress then redis.call("HSET", KEYS[13], "progress", progress) end

-- A quiet beat tells nobody anything, so nothing is lost with it.
if changed or moved then set("sequence", next_sequence(drop)) end
redis.call("HSET", KEYS[1], unpack(lines_fields(lines, fields)))
if changed then
  redis.call("XADD", KEYS[16], "*", "v", "1", "s", drop.sequence, "d", cmsgpack.pack({drop.effective, drop.now}))
end
return done(drop, {"advanced", snapshot(ledger, lines, keys)})
