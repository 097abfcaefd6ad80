-- How the line has moved: what the pace and the honest numbers are made of. Totals since the drop began; nothing sold or owed
-- depends on them, so one that cannot be counted must not stop a call.

-- Ages of a call at which the next bucket begins; what is older than the last is in one more.
local CALL_AGES_MS = {500, 1000, 1500, 2000, 3000, 4500, 7000, 10000}
local PROGRESS_EVERY_MS, PROGRESS_MAX = 5000, 13
local FLOW_TOTALS = {"called", "ended"}
local STATS_TOTALS = {"reserved_units", "expired_units"}

local function flow_add(key, name, by)
  if by > 0 then redis.pcall("HINCRBY", key, name, by) end
end

-- Counts claims by how long after the call they came.
local function flow_claims(key, waits)
  local counts = {}
  for i = 1, #waits do
    local bucket = 1
    while bucket <= #CALL_AGES_MS and waits[i] >= CALL_AGES_MS[bucket] do bucket = bucket + 1 end
    counts[bucket] = (counts[bucket] or 0) + 1
  end
  for bucket, by in pairs(counts) do flow_add(key, "claims:" .. bucket, by) end
end

-- Places called and not claimed, by age; nobody waits for those called longer ago than the claim window.
local function flow_called_by_age(called, now, claim_window_ms)
  local counts, younger = {}, 0
  for bucket = 1, #CALL_AGES_MS + 1 do
    local age_ms = math.min(CALL_AGES_MS[bucket] or claim_window_ms, claim_window_ms)
    local to = redis.call("ZCOUNT", called, string.format("(%d", now - age_ms), "+inf")
    counts[bucket], younger = to - younger, to
  end
  return counts
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

-- As everybody's picture has it: {called by age, claims by delay, called, ended, standby, units ever reserved, units
-- ever expired, progress, age of the journal}.
local function flow_picture(keys, now, claim_window_ms)
  local names = {}
  for bucket = 1, #CALL_AGES_MS + 1 do names[bucket] = "claims:" .. bucket end
  for i = 1, #FLOW_TOTALS do names[#names + 1] = FLOW_TOTALS[i] end
  names[#names + 1] = "progress"
  local values, claims = redis.call("HMGET", keys.flow, unpack(names)), {}
  for bucket = 1, #CALL_AGES_MS + 1 do claims[bucket] = tonumber(values[bucket] or "") or 0 end
  local picture = {flow_called_by_age(keys.called, now, claim_window_ms), claims}
  for i = 1, #FLOW_TOTALS do picture[#picture + 1] = tonumber(values[#CALL_AGES_MS + 1 + i] or "") or 0 end
  picture[#picture + 1] = redis.call("ZCARD", keys.standby)
  local units = redis.call("HMGET", keys.stats, unpack(STATS_TOTALS))
  for i = 1, #STATS_TOTALS do picture[#picture + 1] = tonumber(units[i] or "") or 0 end
  picture[#picture + 1] = values[#names] and cmsgpack.unpack(values[#names]) or {}
  picture[#picture + 1] = flow_journal_age(keys.journal)
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
