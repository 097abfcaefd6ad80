-- How the line has moved: what the pace and the honest numbers are made of. Totals since the drop began; nothing sold or owed
-- depends on them, so one that cannot be counted must not stop a call.

-- Ages of a call at which the next bucket begins; what is older than the last is in one more.
local CALL_AGES_MS = {500, 1000, 1500, 2000, 3000, 4500, 7000, 10000}
-- The same in sixteenths: of the claim window, after which a slot lapses whose shopper has reserved nothing, and of the time for
-- which units stay reserved.
local PARTS, PART_AGES = 16, {1, 2, 3, 4, 6, 8, 12, 16}
-- What is counted by them: who reserved, and who left without; reservations paid, and given back.
local BY_PART = {"chose", "left", "paid", "freed"}
local PROGRESS_EVERY_MS, PROGRESS_MAX = 5000, 13
local FLOW_TOTALS = {"called", "ended", "entered", "reserved"}
local STATS_TOTALS = {"reserved_units", "expired_units"}

local function flow_add(key, name, by)
  if by > 0 then redis.pcall("HINCRBY", key, name, by) end
end

-- Counts `values` as `name:1` and so on, each by how many of `edges` it has reached.
local function flow_count(key, name, values, edges)
  local counts = {}
  for i = 1, #values do
    local bucket = 1
    while bucket <= #edges and values[i] >= edges[bucket] do bucket = bucket + 1 end
    counts[bucket] = (counts[bucket] or 0) + 1
  end
  for bucket, by in pairs(counts) do flow_add(key, name .. ":" .. bucket, by) end
end

-- Counts claims by how long after the call they came.
local function flow_claims(key, waits)
  flow_count(key, "claims", waits, CALL_AGES_MS)
end

-- Counts a `word` of BY_PART by what part of `whole_ms` had passed.
local function flow_parts(key, word, passed_ms, whole_ms)
  for i = 1, #passed_ms do passed_ms[i] = passed_ms[i] * PARTS / whole_ms end
  flow_count(key, word, passed_ms, PART_AGES)
end

-- Places called and not claimed, by age; nobody waits for those called longer ago than the claim window.
local function flow_called_by_age(called, drop)
  local counts, younger = {}, 0
  for bucket = 1, #CALL_AGES_MS + 1 do
    local age_ms = math.min(CALL_AGES_MS[bucket] or drop.claim_window_ms, drop.claim_window_ms)
    local to = redis.call("ZCOUNT", called, string.format("(%d", begun_ms(drop, age_ms)), "+inf")
    counts[bucket], younger = to - younger, to
  end
  return counts
end

-- How much of what lasts `whole_ms` has reached which part of that; `younger_than` answers how much is younger than an age.
local function flow_by_part(younger_than, whole_ms)
  local counts, younger, most = {}, 0, math.max(0, younger_than(whole_ms))
  for bucket = 1, #PART_AGES do
    local to = younger_than(math.floor(PART_AGES[bucket] * whole_ms / PARTS))
    to = math.max(younger, math.min(to, most))
    counts[bucket], younger = to - younger, to
  end
  counts[#counts + 1] = 0
  return counts
end

local function flow_ending_after(key, at_ms)
  return redis.call("ZCOUNT", key, string.format("(%d", at_ms), "+inf")
end

-- People inside who have reserved nothing, by how long they have been: their slots lapse a claim window after they came in, the
-- others' with their reservations.
local function flow_undecided(slots, expiries, drop)
  local function younger_than(age_ms)
    local ends_ms = begun_ms(drop, age_ms) + drop.claim_window_ms
    return flow_ending_after(slots, ends_ms) - flow_ending_after(expiries, ends_ms)
  end
  return flow_by_part(younger_than, drop.claim_window_ms)
end

-- Live reservations, by how long ago they were made. They run out during a pause, too.
local function flow_live(expiries, drop)
  local ttl_ms = drop.reservation_ttl_ms
  return flow_by_part(function(age_ms) return flow_ending_after(expiries, drop.now - age_ms + ttl_ms) end, ttl_ms)
end

local function flow_numbers(values, from, count)
  local numbers = {}
  for i = 1, count do numbers[i] = tonumber(values[from + i] or "") or 0 end
  return numbers
end

-- How old the oldest journal entry is that the reconciler has not finished, by the server's clock; 0 without a reconciler.
local function flow_journal_age(journal)
  local groups = redis.pcall("XINFO", "GROUPS", journal)
  if groups.err or not groups[1] then return 0 end
  local group = {}
  for i = 1, #groups[1], 2 do group[groups[1][i]] = groups[1][i + 1] end
  local oldest
  if group.pending and group.pending > 0 then oldest = redis.call("XPENDING", journal, group.name)[2] end
  if not oldest and group["last-delivered-id"] then
    local undelivered = redis.call("XRANGE", journal, "(" .. group["last-delivered-id"], "+", "COUNT", 1)
    oldest = undelivered[1] and undelivered[1][1]
  end
  return oldest and math.max(0, store_time_ms() - tonumber(oldest:match("^%d+"))) or 0
end

-- As everybody's picture has it: {called by age, claims by delay, the totals, standby, units ever reserved, units ever expired,
-- progress, age of the journal, {undecided, live reservations, then those of BY_PART, by part}, units of each SKU that those in
-- standby wait for}.
local function flow_picture(keys, drop)
  local names, calls, parts = {}, #CALL_AGES_MS + 1, #PART_AGES + 1
  for i = 1, #FLOW_TOTALS do names[i] = FLOW_TOTALS[i] end
  names[#names + 1] = "progress"
  for bucket = 1, calls do names[#names + 1] = "claims:" .. bucket end
  for i = 1, #BY_PART do
    for bucket = 1, parts do names[#names + 1] = BY_PART[i] .. ":" .. bucket end
  end
  names[#names + 1] = "wanted"
  local values, from = redis.call("HMGET", keys.flow, unpack(names)), #FLOW_TOTALS + 1
  local picture = {flow_called_by_age(keys.called, drop), flow_numbers(values, from, calls)}
  for i = 1, #FLOW_TOTALS do picture[#picture + 1] = tonumber(values[i] or "") or 0 end
  picture[#picture + 1] = redis.call("ZCARD", keys.standby)
  local units = redis.call("HMGET", keys.stats, unpack(STATS_TOTALS))
  for i = 1, #STATS_TOTALS do picture[#picture + 1] = tonumber(units[i] or "") or 0 end
  picture[#picture + 1] = values[from] and cmsgpack.unpack(values[from]) or {}
  picture[#picture + 1] = flow_journal_age(keys.journal)
  local by_part = {flow_undecided(keys.slots, keys.expiries, drop), flow_live(keys.expiries, drop)}
  for i = 1, #BY_PART do by_part[#by_part + 1] = flow_numbers(values, from + calls + (i - 1) * parts, parts) end
  picture[#picture + 1] = by_part
  picture[#picture + 1] = values[#names] and cmsgpack.unpack(values[#names]) or {}
  return picture
end

-- A point every five seconds, for a minute back: {at_ms, called in total}. Answers the packed points with the next one, or nil
-- when it is not due.
local function flow_progress(packed, now, called)
  local points = packed and cmsgpack.unpack(packed) or {}
  if #points > 0 and now - points[#points][1] < PROGRESS_EVERY_MS then return nil end
  points[#points + 1] = {now, called}
  while #points > PROGRESS_MAX do table.remove(points, 1) end
  return cmsgpack.pack(points)
end
