#!lua flags=allow-oom
-- Ends a drop: nobody joins, is admitted or reserves any more. Live reservations may still be paid until they expire.
-- KEYS[1] drop hash: state
-- KEYS[2] journal stream: changes of the drop's state
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- RETURNS msgpack {"done", now_ms, {outcome, closed_at_ms}, sequence}, or {"recovering", epoch, {}}
-- OUTCOMES closed replayed recovering
-- COST O(1)
-- INCLUDE arguments drop ledger lines

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
redis.call("XLEN", KEYS[2])
if drop.state == "closed" then return done(drop, {"replayed", drop.state_at_ms}) end

local lines = read_lines(drop)
fix_entries(lines)
redis.call("HSET", KEYS[1], unpack(lines_fields(lines, {
  "state", "closed", "state_at_ms", drop.now, "closes_at_ms", string.format("%d", math.min(drop.now, drop.closes_at_ms)),
  "sequence", next_sequence(drop),
})))
redis.call("XADD", KEYS[2], "*", "v", "1", "s", drop.sequence, "d", cmsgpack.pack({"closed", drop.now}))
return done(drop, {"closed", drop.now})
