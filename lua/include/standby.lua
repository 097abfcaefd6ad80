-- Units that come back go to those who waited for them: an admitted shopper who finds everything reserved keeps a place here,
-- and is before everybody with a higher one. What is there goes to them in line order, each time to the next for whom it is
-- enough, so that nobody's wish for more keeps units from being sold. A turn lasts a while; then it is the next one's.

local STANDBY_MAX = 256
-- At most; never longer than somebody who is called may take to come.
local TURN_MS = 10000

local function standby_fits(items, left)
  for j = 1, #items do
    if items[j][2] > (left[items[j][1]] or 0) then return false end
  end
  return true
end

local function standby_left(stock_of)
  local left, some = {}, false
  for sku, stock in pairs(stock_of) do
    left[sku] = stock.available
    some = some or stock.available > 0
  end
  return left, some
end

-- All in standby, in line order: {place, items, when they last asked for what was there}.
local function standby_all(keys, standing)
  local all = {}
  if standing == 0 then return all end
  local places = redis.call("ZRANGE", keys.standby, 0, STANDBY_MAX - 1)
  local wants = redis.call("HMGET", keys.wants, unpack(places))
  for i = 1, #places do
    local want = wants[i] and cmsgpack.unpack(wants[i])
    if want then all[#all + 1] = {tonumber(places[i]), want[2], want[1]} end
  end
  return all
end

-- Those of `all` who wait for no more than what is available. Units only become fewer while a script hands them out, so nobody
-- else can come into question in it.
local function standby_fitting(all, stock_of)
  local left, some = standby_left(stock_of)
  local waiting = {}
  for i = 1, some and #all or 0 do
    if standby_fits(all[i][2], left) then waiting[#waiting + 1] = all[i] end
  end
  return waiting
end

-- As `standby_fitting` of everybody; reads nobody while nothing is available.
local function standby_waiting(keys, standing, stock_of)
  local _, some = standby_left(stock_of)
  return some and standby_fitting(standby_all(keys, standing), stock_of) or {}
end

-- Who of `all` waits for more than there will ever be again, and how many units the others want of each of `skus`.
local function standby_prospects(all, skus, stock_of)
  local to_come, wanted, units, hopeless = {}, {}, {}, {}
  for i = 1, #skus do
    local stock = stock_of[skus[i]]
    to_come[skus[i]], units[skus[i]] = stock.available + stock.reserved - stock.draining, 0
  end
  for i = 1, #all do
    local items = all[i][2]
    if not standby_fits(items, to_come) then
      hopeless[#hopeless + 1] = all[i][1]
    else
      for j = 1, #items do units[items[j][1]] = units[items[j][1]] + items[j][2] end
    end
  end
  for i = 1, #skus do wanted[i] = units[skus[i]] end
  return hopeless, wanted
end

-- Hands what is available to those of `waiting`, in line order. Answers whose turn it is, and what is left after them.
local function standby_share(waiting, stock_of)
  local left, fitting = standby_left(stock_of), {}
  for i = 1, #waiting do
    local items = waiting[i][2]
    if standby_fits(items, left) then
      for j = 1, #items do left[items[j][1]] = left[items[j][1]] - items[j][2] end
      fitting[#fitting + 1] = waiting[i][1]
    end
  end
  return fitting, left
end

-- Whether those of `waiting` before `place` leave enough for `items`.
local function standby_leaves(waiting, stock_of, place, items)
  local left = nil
  for i = 1, #waiting do
    if waiting[i][1] >= place then return true end
    left = left or standby_left(stock_of)
    local theirs = waiting[i][2]
    if standby_fits(theirs, left) then
      for j = 1, #theirs do left[theirs[j][1]] = left[theirs[j][1]] - theirs[j][2] end
      if not standby_fits(items, left) then return false end
    end
  end
  return true
end

-- In `waiting`, `place` now waits for `items`, or for nothing more when they are nil.
local function standby_set(waiting, place, items, now)
  local at = 1
  while waiting[at] and waiting[at][1] < place do at = at + 1 end
  if waiting[at] and waiting[at][1] == place then table.remove(waiting, at) end
  if items then table.insert(waiting, at, {place, items, now}) end
end

local function standby_leave(keys, places)
  if #places == 0 then return end
  redis.call("ZREM", keys.standby, unpack(places))
  redis.call("HDEL", keys.wants, unpack(places))
  redis.call("ZREM", keys.offers, unpack(places))
end

-- Whose turn begins, is over, and is put off because what it was about has gone to somebody before them. Who is there asks
-- for what is available; so when a turn has passed unused, everybody who has not asked since it began is passed over with it,
-- and units do not wait for one absent person after the other.
local function standby_turns(keys, waiting, fitting, drop)
  local turns, ends, unused_since = {begun = {}, over = {}, off = {}}, {}, nil
  local now, lasts_ms = drop.now, math.min(TURN_MS, drop.claim_window_ms)
  local over_ms = begun_ms(drop, lasts_ms) + lasts_ms
  local offers = redis.call("ZRANGE", keys.offers, 0, STANDBY_MAX - 1, "WITHSCORES")
  for i = 1, #offers, 2 do ends[tonumber(offers[i])] = tonumber(offers[i + 1]) end
  local is_over, is_running = {}, {}
  for i = 1, #fitting do
    local place = fitting[i]
    if not ends[place] then
      turns.begun[#turns.begun + 1], turns.begun[#turns.begun + 2] = now + lasts_ms, place
    elseif ends[place] <= over_ms then
      turns.over[#turns.over + 1], is_over[place] = place, true
      unused_since = math.max(unused_since or 0, ends[place] - lasts_ms)
    else
      is_running[place] = true
    end
    ends[place] = nil
  end
  for place in pairs(ends) do turns.off[#turns.off + 1] = place end
  for i = 1, unused_since and #waiting or 0 do
    local place, asked_at_ms = waiting[i][1], waiting[i][3]
    if asked_at_ms < unused_since and not is_over[place] and not is_running[place] then turns.over[#turns.over + 1] = place end
  end
  return turns
end

local function standby_write(keys, turns)
  if #turns.begun > 0 then redis.call("ZADD", keys.offers, unpack(turns.begun)) end
  if #turns.off > 0 then redis.call("ZREM", keys.offers, unpack(turns.off)) end
  standby_leave(keys, turns.over)
end
