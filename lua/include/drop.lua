-- The drop as this call sees it: its hash read once, the time read once, and the state that follows from both.
-- A missing drop is never "zero" and never "full": load_drop answers nil, and the script says it is recovering. A number
-- that is none counts as missing.

local DROP_FIELDS = {
  "state", "epoch", "joins_at_ms", "opens_at_ms", "closes_at_ms", "rate_per_min", "capacity", "claim_window_ms",
  "reservation_ttl_ms", "token_ttl_ms", "limit_per_shopper", "tickets_max", "reservations_per_shopper_max", "joined",
  "serving_number", "admitted", "beat", "credit", "advanced_at_ms", "state_at_ms",
  "sequence", "skus", "entries", "key", "notice", "digest", "clock", "fenced",
}
local DROP_TEXT = {
  state = true, skus = true, entries = true, key = true, notice = true, digest = true, clock = true, fenced = true,
}
-- Not there in a drop that was given to the store by an earlier version: then it is as it was in that version.
local DROP_LATER = {
  {"order", "arrival"}, {"lines", ""}, {"root", ""}, {"joining", ""}, {"signal", 1000}, {"signal_until_ms", 0}, {"drawn_at_ms", 0},
  {"resumed_at_ms", 0}, {"paused_ms", 0},
}
local DROP_NAMES = {unpack(DROP_FIELDS)}
for i = 1, #DROP_LATER do DROP_NAMES[#DROP_FIELDS + i] = DROP_LATER[i][1] end

local function store_time_ms()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The state at `now`: an opening or closing takes effect at its time, whoever notices it first.
local function state_at(drop, now)
  if drop.state == "closed" or now >= drop.closes_at_ms then return "closed" end
  if drop.state == "paused" or drop.state == "open" then return drop.state end
  if now >= drop.opens_at_ms then return "open" end
  if now >= drop.joins_at_ms then return "waiting" end
  return "scheduled"
end

-- When something began that has lasted `age_ms` by now. Pauses do not count, so nothing has to be written down when one ends.
local function begun_ms(drop, age_ms)
  local at_ms = (drop.effective == "paused" and math.min(drop.state_at_ms, drop.now) or drop.now) - age_ms
  return at_ms < drop.resumed_at_ms and at_ms - drop.paused_ms or at_ms
end

-- How long something has lasted that began then.
local function age_ms_of(drop, at_ms)
  return math.max(0, drop.now - at_ms - (at_ms < drop.resumed_at_ms and drop.paused_ms or 0))
end

-- `envelope`: msgpack {epoch the caller knows or 0, clock_ms or 0, sequence the caller has seen or 0}. Answers nil when
-- the drop, its epoch, or a change the caller has seen is not in this store, and when the drop is fenced off. A drop that
-- lacks a change is fenced off at once: callers who have seen less would soon have numbered as many others. Only a drop
-- made for tests ("clock" = "injected") takes its time from the caller.
local function load_drop(key, envelope)
  local head = unpack_array(envelope, 3, "envelope")
  local epoch = whole(head[1], 0, 2 ^ 53, "epoch")
  local clock_ms = whole(head[2] or 0, 0, 2 ^ 53, "clock_ms")
  local seen = whole(head[3] or 0, 0, 2 ^ 53, "sequence")
  local values = redis.call("HMGET", key, unpack(DROP_NAMES))
  local drop = {}
  for i = 1, #DROP_FIELDS do
    local name, value = DROP_FIELDS[i], values[i]
    if value and not DROP_TEXT[name] then value = tonumber(value) end
    if not value then return nil, 0 end
    drop[name] = value
  end
  for i = 1, #DROP_LATER do
    local name, otherwise = DROP_LATER[i][1], DROP_LATER[i][2]
    local value = values[#DROP_FIELDS + i] or otherwise
    if type(otherwise) == "number" then value = tonumber(value) or otherwise end
    drop[name] = value
  end
  if drop.fenced == "" and epoch == drop.epoch and seen > drop.sequence then
    drop.fenced = "rolled_back"
    redis.pcall("HSET", key, "fenced", drop.fenced) -- a script that must not write leaves it to the next one
  end
  if drop.fenced ~= "" or epoch ~= 0 and epoch ~= drop.epoch then return nil, drop.epoch end
  drop.now = (drop.clock == "injected" and clock_ms > 0) and clock_ms or store_time_ms()
  drop.skus = cmsgpack.unpack(drop.skus)
  drop.effective = state_at(drop, drop.now)
  return drop
end

-- Every call that changes something takes the next number. A store that has gone back in time is found by it.
local function next_sequence(drop)
  drop.sequence = drop.sequence + 1
  return drop.sequence
end

local function recovering(epoch)
  return cmsgpack.pack({"recovering", epoch, {}})
end

local function done(drop, results)
  return cmsgpack.pack({"done", drop.now, results, drop.sequence})
end
