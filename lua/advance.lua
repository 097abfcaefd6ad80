#!lua
-- One beat of the inlet: lets time take its effect on the drop, frees lapsed slots, raises the serving number.
-- Whoever comes first in a beat does the work; everyone gets the picture.
-- KEYS[1] drop hash: state, rate, capacity, serving number, beat
-- KEYS[2] stock hash: what is left
-- KEYS[3] slots zset: queue numbers that count as active, by the time their slot lapses
-- KEYS[4] returning zset: served numbers that wait for a slot again; they go before anyone new
-- KEYS[5] served stream: one entry per raise
-- KEYS[6] expiries zset: live reservations, for the picture
-- KEYS[7] stats hash: totals for people
-- KEYS[8] journal stream: changes of the drop's state
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] pace msgpack: {beat_ms, rate_per_min}; a negative rate means the drop's own
-- RETURNS msgpack {"done", now_ms, {outcome, snapshot}, sequence}, or {"recovering", epoch, {}}
-- OUTCOMES advanced held recovering
-- COST O(admitted in this beat log slots), at most 1000
-- INCLUDE arguments drop ledger snapshot

local BEAT_ADMISSIONS_MAX = 1000
local CREDIT_SPAN_MS = 2000

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local pace = unpack_array(ARGV[2], 2, "pace")
local beat_ms = whole(pace[1], 10, 60000, "beat_ms")
local rate_per_min = whole(pace[2], -1, 1e9, "rate_per_min")
if rate_per_min < 0 then rate_per_min = drop.rate_per_min end
local ledger = ledger_new(drop)
if not ledger_read_stock(ledger, KEYS[2]) then return recovering(drop.epoch) end
redis.call("XLEN", KEYS[5])
check_types(KEYS[6], KEYS[3], KEYS[7], KEYS[8])
local returning = redis.call("ZCARD", KEYS[4])

local beat = math.floor(drop.now / beat_ms)
-- After a failover to a server whose clock is behind, the line would stand still until the old time came again.
local clock_went_back = drop.now + CREDIT_SPAN_MS < drop.advanced_at_ms
if beat <= drop.beat and not clock_went_back then
  return done(drop, {"held", snapshot(ledger, KEYS[3], KEYS[4], KEYS[6])})
end

local fields = {"beat", beat, "advanced_at_ms", drop.now}
local function set(name, value)
  fields[#fields + 1] = name
  fields[#fields + 1] = value
  drop[name] = value
end

local changed = drop.effective ~= drop.state
if changed then
  set("state", drop.effective)
  set("state_at_ms", drop.now)
end
if drop.entries == "" and drop.now >= drop.opens_at_ms then set("entries", tostring(drop.joined)) end

local lapsed, back, first, admit = {}, {}, drop.serving_number, 0
if drop.effective == "open" then
  lapsed = redis.call("ZRANGEBYSCORE", KEYS[3], "-inf", drop.now, "LIMIT", 0, BEAT_ADMISSIONS_MAX)
  local since_ms = drop.advanced_at_ms > 0 and drop.now - math.max(drop.advanced_at_ms, drop.opens_at_ms) or 0
  since_ms = math.max(0, math.min(since_ms, CREDIT_SPAN_MS))
  local credit_max = rate_per_min > 0 and math.max(1, rate_per_min * CREDIT_SPAN_MS / 60000) or 0
  local credit = math.min(drop.credit + rate_per_min * since_ms / 60000, credit_max)
  local free = drop.capacity - redis.call("ZCARD", KEYS[3]) + #lapsed
  local may = math.max(0, math.min(math.floor(credit), free, BEAT_ADMISSIONS_MAX))
  if all_sold(ledger) then may = 0 end
  if may > 0 and returning > 0 then back = redis.call("ZRANGE", KEYS[4], 0, may - 1) end
  admit = math.min(may - #back, drop.joined - first)
  set("credit", string.format("%.6f", credit - #back - admit))
end

if #lapsed > 0 then
  redis.call("ZREM", KEYS[3], unpack(lapsed))
  redis.pcall("HINCRBY", KEYS[7], "slots_lapsed", #lapsed)
end
local until_ms, slots = drop.now + drop.claim_window_ms, {}
for i = 1, #back do
  slots[#slots + 1] = until_ms
  slots[#slots + 1] = back[i]
end
for number = first, first + admit - 1 do
  slots[#slots + 1] = until_ms
  slots[#slots + 1] = number
end
if #slots > 0 then redis.call("ZADD", KEYS[3], unpack(slots)) end
if #back > 0 then redis.call("ZREM", KEYS[4], unpack(back)) end
if admit > 0 then
  set("serving_number", first + admit)
  redis.call("XADD", KEYS[5], "*", "at_ms", string.format("%d", drop.now), "from", first, "to", first + admit)
end
-- A quiet beat tells nobody anything, so nothing is lost with it.
if changed or admit > 0 then set("sequence", next_sequence(drop)) end
redis.call("HSET", KEYS[1], unpack(fields))
if changed then
  redis.call("XADD", KEYS[8], "*", "v", "1", "s", drop.sequence, "d", cmsgpack.pack({drop.effective, drop.now}))
end
return done(drop, {"advanced", snapshot(ledger, KEYS[3], KEYS[4], KEYS[6])})
