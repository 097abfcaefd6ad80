-- Units that come back go to those who waited for them: an admitted shopper who finds everything reserved keeps a place here,
-- and is before everybody with a higher one. A turn lasts a while; then it is the next one's.

local STANDBY_READ_MAX = 256
local TURN_MS = 30000
local TURNS_MAX = 50

-- Those who wait for units, in line order: {place, items}. Second: whether there are more than were read.
local function standby_waiting(keys)
  local count = redis.call("ZCARD", keys.standby)
  if count == 0 then return {}, false end
  local places, waiting = redis.call("ZRANGE", keys.standby, 0, STANDBY_READ_MAX - 1), {}
  local wants = redis.call("HMGET", keys.wants, unpack(places))
  for i = 1, #places do
    waiting[i] = {tonumber(places[i]), wants[i] and cmsgpack.unpack(wants[i]) or {}}
  end
  return waiting, count > #places
end

-- Units of `sku` that are for others than `place`: those who wait and are before it.
local function standby_before(waiting, more, place, sku)
  local units = 0
  for i = 1, #waiting do
    if waiting[i][1] >= place then return units end
    for j = 1, #waiting[i][2] do
      if waiting[i][2][j][1] == sku then units = units + waiting[i][2][j][2] end
    end
  end
  return more and math.huge or units
end

local function standby_leave(keys, places)
  if #places == 0 then return end
  redis.call("ZREM", keys.standby, unpack(places))
  redis.call("HDEL", keys.wants, unpack(places))
  redis.call("ZREM", keys.offers, unpack(places))
end

-- Begins the turns of those for whom there are units now, and ends those that have lasted long enough.
local function standby_turns(keys, ledger)
  local waiting = standby_waiting(keys)
  if #waiting == 0 then return end
  local left, over, begun = {}, {}, {}
  for sku, stock in pairs(ledger.stock) do left[sku] = stock.available end
  for i = 1, math.min(#waiting, TURNS_MAX) do
    local place, items, fits = waiting[i][1], waiting[i][2], true
    for j = 1, #items do
      if items[j][2] > (left[items[j][1]] or 0) then fits = false end
      left[items[j][1]] = (left[items[j][1]] or 0) - items[j][2]
    end
    if not fits then break end
    local until_ms = tonumber(redis.call("ZSCORE", keys.offers, place) or nil)
    if not until_ms then
      begun[#begun + 1], begun[#begun + 2] = ledger.drop.now + TURN_MS, place
    elseif until_ms <= ledger.drop.now then
      over[#over + 1] = place
    end
  end
  if #begun > 0 then redis.call("ZADD", keys.offers, unpack(begun)) end
  standby_leave(keys, over)
end
