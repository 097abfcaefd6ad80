#!lua flags=allow-oom
-- A merchant's hand on a drop: pause, resume, open before its time, another rate or capacity, a notice to the waiting, an end to
-- joining; and the storefront's own signal of how much it can take.
-- KEYS[1] drop hash: state and rules
-- KEYS[2] journal stream: changes of the drop's state
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] command msgpack: {word, value} or {"signal", permille of the rate, ttl_ms}; words pause, resume, open, rate_per_min,
--         capacity, notice, joining (open or closed), signal
-- RETURNS msgpack {"done", now_ms, {outcome, state}, sequence}, or {"recovering", epoch, {}}
-- OUTCOMES done unchanged refused recovering
-- COST O(1)
-- INCLUDE arguments drop ledger lines

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local command = unpack_array(ARGV[2], 3, "command")
local word, value = text(command[1], 16, "word"), command[2]
redis.call("XLEN", KEYS[2])

local function enter(state, ...)
  redis.call("HSET", KEYS[1], "sequence", next_sequence(drop), "state", state, "state_at_ms", drop.now, ...)
  redis.call("XADD", KEYS[2], "*", "v", "1", "s", drop.sequence, "d", cmsgpack.pack({state, drop.now}))
  return done(drop, {"done", state})
end

local state = drop.effective

local function set()
  if drop[word] ~= value then redis.call("HSET", KEYS[1], word, value, "sequence", next_sequence(drop)) end
  return done(drop, {"done", state})
end

local before_opening = state == "scheduled" or state == "waiting"
if word == "pause" then
  if state == "paused" then return done(drop, {"unchanged", state}) end
  if state == "open" then
    -- What an earlier pause has held up may be running yet.
    return enter("paused", "paused_ms", drop.now < drop.resumed_at_ms + drop.claim_window_ms and drop.paused_ms or 0)
  end
elseif word == "resume" then
  if state == "open" then return done(drop, {"unchanged", state}) end
  if state == "paused" then
    return enter("open", "resumed_at_ms", drop.now, "paused_ms", drop.paused_ms + math.max(0, drop.now - drop.state_at_ms))
  end
elseif word == "open" then
  if state == "open" then return done(drop, {"unchanged", state}) end
  if before_opening then
    local lines = read_lines(drop)
    fix_entries(lines)
    return enter("open", unpack(lines_fields(lines, {
      "opens_at_ms", string.format("%d", drop.now), "joins_at_ms", string.format("%d", math.min(drop.now, drop.joins_at_ms)),
    })))
  end
elseif word == "rate_per_min" or word == "capacity" then
  whole(value, 1, 1e7, word)
  if state ~= "closed" then return set() end
elseif word == "notice" then
  text_or_empty(value, 500, word)
  return set()
elseif word == "joining" then
  if value ~= "open" and value ~= "closed" then bad_argument("joining must be open or closed") end
  return set()
elseif word == "signal" then
  redis.call("HSET", KEYS[1], "signal", whole(value, 0, 1000, word), "signal_until_ms",
    string.format("%d", drop.now + whole(command[3], 0, 86400000, "ttl_ms")))
  return done(drop, {"done", state})
else
  bad_argument("word must be pause, resume, open, rate_per_min, capacity, notice, joining or signal")
end
return done(drop, {"refused", state})
