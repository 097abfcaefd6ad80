#!lua flags=allow-oom
-- The draw, in two steps that the first caller decides, so that whoever makes it, it is made once: "close" writes down the root of
-- the entries of each line; "reveal", which may have asked a beacon after that, the key of each line. "gone" tells where in the line
-- those are who gave up their places before.
-- KEYS[1] drop hash: entries, roots, keys
-- KEYS[2] leaving zset: places given up before the draw, by entry number
-- KEYS[3] gone zset: places given up, by queue number
-- KEYS[4] journal stream: changes of the drop, the draw among them
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] step msgpack: {"close", roots}, {"reveal", roots, keys, beacon}, each root and key hex, one for each line; beacon
--         {kind, value, round, why} as it will be published; or {"gone", places, queue places}
-- RETURNS msgpack {"done", now_ms, {outcome, closed_at_ms, roots, keys}, sequence}, or {"recovering", epoch, {}}
-- OUTCOMES closed revealed gone replayed refused recovering
-- COST O(lines), "gone" O(places), at most 1000
-- INCLUDE arguments drop ledger lines

local GONE_MAX = 1000

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local step = unpack_array(ARGV[2], 4, "step")
local word, lines = text(step[1], 16, "word"), read_lines(drop)
redis.call("ZCARD", KEYS[2])
redis.call("ZCARD", KEYS[3])
redis.call("XLEN", KEYS[4])
local closed_at_ms = tonumber(redis.call("HGET", KEYS[1], "closed_entries_at_ms") or "0") or 0

local function check_hashes(values, name)
  if type(values) ~= "table" or #values ~= #lines + 1 then bad_argument(name .. " must be one for each line") end
  for i = 1, #values do
    if not text(values[i], 64, name):find("^" .. string.rep("%x", 64) .. "$") then bad_argument(name .. " must be 64 hex digits") end
  end
end

local function check_entry(place, name)
  local line = lines[line_of(whole(place, 0, 2 ^ 53, name))]
  if not line or place % LINE_STRIDE >= (line.entries or line.joined) then bad_argument(name .. " must be an entry's") end
end

local function told(outcome)
  local roots, keys = {}, {}
  for i = 0, #lines do roots[i + 1], keys[i + 1] = lines[i].root, lines[i].key end
  return done(drop, {outcome, closed_at_ms, roots, keys})
end

local function write(...)
  redis.call("HSET", KEYS[1], unpack(lines_fields(lines, {"sequence", next_sequence(drop), ...})))
end

local function same_roots()
  for i = 0, #lines do
    if lines[i].root ~= step[2][i + 1] then return false end
  end
  return true
end

if word == "close" then
  check_hashes(step[2], "roots")
  if drop.order ~= "draw" then return told("refused") end
  for i = 0, #lines do
    if not lines[i].entries then return told("refused") end
  end
  if lines[0].root ~= "" then return told("replayed") end
  for i = 0, #lines do lines[i].root = step[2][i + 1] end
  closed_at_ms = drop.now
  write("closed_entries_at_ms", string.format("%d", closed_at_ms))
  return told("closed")
elseif word == "reveal" then
  check_hashes(step[2], "roots")
  check_hashes(step[3], "keys")
  local beacon = step[4]
  if type(beacon) ~= "table" then bad_argument("beacon must be a map") end
  if lines[0].key ~= "" then return told("replayed") end
  if lines[0].root == "" or not same_roots() then return told("refused") end
  for i = 0, #lines do lines[i].key = step[3][i + 1] end
  local packed, drawn = cmsgpack.pack(beacon), {}
  for i = 0, #lines do drawn[i + 1] = {lines[i].group, lines[i].entries, lines[i].root, lines[i].key} end
  write("drawn_at_ms", string.format("%d", drop.now), "beacon", packed)
  redis.call("XADD", KEYS[4], "*", "v", "1", "s", drop.sequence, "w", cmsgpack.pack({drop.now, drawn, beacon}))
  return told("revealed")
elseif word == "gone" then
  local places, queue_places, scored = step[2], step[3], {}
  if type(places) ~= "table" or type(queue_places) ~= "table" or #places ~= #queue_places or #places > GONE_MAX then
    bad_argument("places must be pairs, at most " .. GONE_MAX)
  end
  for i = 1, #places do
    check_entry(places[i], "place")
    check_entry(queue_places[i], "queue place")
  end
  if lines[0].key == "" then return told("refused") end
  for i = 1, #places do
    local place = queue_places[i]
    if not is_called(lines, place) then scored[#scored + 1], scored[#scored + 2] = place, place end
  end
  if #places > 0 then redis.call("ZREM", KEYS[2], unpack(places)) end
  if #scored > 0 then redis.call("ZADD", KEYS[3], unpack(scored)) end
  return told("gone")
end
bad_argument("word must be close, reveal or gone")
