-- Units that come back go to those who waited for them: an admitted shopper who finds everything reserved keeps a place here,
-- and is before everybody with a higher one. What is there goes to them in line order, each time to the next for whom it is
-- enough, so that nobody's wish for more keeps units from being sold. A turn lasts a while; then it is the next one's.

local STANDBY_MAX = 256
-- At most; never longer than somebody who is called may take to come.
local TURN_MS = 10000

-- Those who wait for units, in line order: {place, items}.
local function standby_waiting(keys)
  local places, waiting = redis.call("ZRANGE", keys.standby, 0, STANDBY_MAX - 1), {}
  if #places == 0 then return waiting end
  local wants = redis.call("HMGET", keys.wants, unpack(places))
  for i = 1, #places do
    waiting[i] = {tonumber(places[i]), wants[i] and cmsgpack.unpack(wants[i]) or {}}
  end
  return waiting
end

-- Hands what is available to those of `waiting` who are before `place`. Answers what is left of each SKU, and whose turn it is.
local function standby_share(waiting, stock_of, place)
  local left, fitting = {}, {}
  for sku, stock in pairs(stock_of) do left[sku] = stock.available end
  for i = 1, #waiting do
    local items, fits = waiting[i][2], true
    if waiting[i][1] >= place then break end
    for j = 1, #items do fits = fits and items[j][2] <= (left[items[j][1]] or 0) end
    if fits then
      for j = 1, #items do left[items[j][1]] = left[items[j][1]] - items[j][2] end
      fitting[#fitting + 1] = waiting[i][1]
    end
  end
  return left, fitting
end

-- `place` now waits for `items`, or for nothing more when they are nil. Answers false when too many wait already.
local function standby_set(waiting, place, items)
  local at = 1
  while waiting[at] and waiting[at][1] < place do at = at + 1 end
  local there = waiting[at] and waiting[at][1] == place
  if not items then
    if there then table.remove(waiting, at) end
  elseif there then
    waiting[at][2] = items
  elseif #waiting < STANDBY_MAX then
    table.insert(waiting, at, {place, items})
  else
    return false
  end
  return true
end

local function standby_leave(keys, places)
  if #places == 0 then return end
  redis.call("ZREM", keys.standby, unpack(places))
  redis.call("HDEL", keys.wants, unpack(places))
  redis.call("ZREM", keys.offers, unpack(places))
end

-- Whose turn begins, is over, and is put off because what it was about has gone to somebody before them.
local function standby_turns(keys, stock_of, now, claim_window_ms)
  local turns, ends = {begun = {}, over = {}, off = {}}, {}
  local offers = redis.call("ZRANGE", keys.offers, 0, STANDBY_MAX - 1, "WITHSCORES")
  for i = 1, #offers, 2 do ends[tonumber(offers[i])] = tonumber(offers[i + 1]) end
  local _, fitting = standby_share(standby_waiting(keys), stock_of, math.huge)
  for i = 1, #fitting do
    local place = fitting[i]
    if not ends[place] then
      turns.begun[#turns.begun + 1], turns.begun[#turns.begun + 2] = now + math.min(TURN_MS, claim_window_ms), place
    elseif ends[place] <= now then
      turns.over[#turns.over + 1] = place
    end
    ends[place] = nil
  end
  for place in pairs(ends) do turns.off[#turns.off + 1] = place end
  return turns
end

local function standby_write(keys, turns)
  if #turns.begun > 0 then redis.call("ZADD", keys.offers, unpack(turns.begun)) end
  if #turns.off > 0 then redis.call("ZREM", keys.offers, unpack(turns.off)) end
  standby_leave(keys, turns.over)
end
