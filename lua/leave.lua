#!lua flags=allow-oom
-- A place is given up, by its shopper or by the merchant: it is not called any more, and its slot is free at once.
-- KEYS[1] drop hash: state, serving numbers
-- KEYS[2] tickets hash: ticket id to record
-- KEYS[3] called zset: places called whose shopper has not come yet
-- KEYS[4] slots zset: places that count as active
-- KEYS[5] returning zset: places that were called and found no slot
-- KEYS[6] gone zset: places given up, by queue number
-- KEYS[7] leaving zset: places given up before the draw, by entry number
-- KEYS[8] standby zset: places of shoppers who found everything reserved
-- KEYS[9] wants hash: place in standby to what it waits for
-- KEYS[10] offers zset: places in standby whose turn it is
-- KEYS[11] identities hash: digest of an identity to the ticket that has its place
-- KEYS[12] served stream: the admission log
-- KEYS[13] flow hash: how the line has moved
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- ARGV[2] request msgpack: {ticket_id, word (left or removed), why, place the caller takes it to have or -1, its queue place by the
--         draw or -1, the first 16 digits of that draw's key}
-- RETURNS msgpack {"done", now_ms, {outcome, place}, sequence}, or {"recovering", epoch, {}}
-- OUTCOMES left removed replayed not_found moved place reserved recovering
-- COST O(log line)
-- INCLUDE arguments drop ledger lines flow standby

local drop, epoch = load_drop(KEYS[1], ARGV[1])
if not drop then return recovering(epoch) end
local request = unpack_array(ARGV[2], 6, "request")
local id, word, reason = text(request[1], 128, "ticket_id"), text(request[2], 16, "word"), text_or_empty(request[3], 200, "why")
local entry, queue = whole(request[4], -1, 2 ^ 53, "place"), whole(request[5], -1, 2 ^ 53, "queue place")
local mark = text_or_empty(request[6] or "", DRAW_MARK_CHARS, "mark of the draw")
if word ~= "left" and word ~= "removed" then bad_argument("word must be left or removed") end
local ledger, lines = ledger_new(drop), read_lines(drop)
read_tickets(ledger, KEYS[2], {id})
redis.call("ZCARD", KEYS[3])
redis.call("ZCARD", KEYS[4])
redis.call("ZCARD", KEYS[5])
redis.call("ZCARD", KEYS[6])
redis.call("ZCARD", KEYS[7])
redis.call("ZCARD", KEYS[8])
redis.call("HLEN", KEYS[9])
redis.call("ZCARD", KEYS[10])
redis.call("HLEN", KEYS[11])
redis.call("XLEN", KEYS[12])
redis.call("HLEN", KEYS[13])

local why, ticket, own = ticket_of(ledger, id)
if why == "moved" and word == "removed" then why, ticket, own = nil, ledger.tickets[id], id end
if why == "left" or why == "removed" then return done(drop, {"replayed", 0}) end
if why then return done(drop, {why, 0}) end
-- Units that somebody holds have to be given back or paid first; only the merchant may take the place from under them.
if word == "left" and ticket[TICKET_LIVE] > 0 then return done(drop, {"reserved", ticket[TICKET_PLACE]}) end
local turn, undrawn = turn_of(drop, lines, ticket, entry, queue, mark)
if not turn and not undrawn then return done(drop, {"place", ticket[TICKET_PLACE]}) end

ticket[TICKET_GONE], ledger.tickets_changed[own] = word, true
if ticket[TICKET_TOKEN_ID] ~= "" then ticket[TICKET_TOKEN_EXPIRES_AT_MS] = math.min(ticket[TICKET_TOKEN_EXPIRES_AT_MS], drop.now) end
write_tickets(ledger, KEYS[2])
if word == "left" and ticket[TICKET_IDENTITY] ~= "" then redis.call("HDEL", KEYS[11], ticket[TICKET_IDENTITY]) end
local place = turn or ticket[TICKET_PLACE]
if undrawn then
  redis.call("ZADD", KEYS[7], place, place)
elseif not is_called(lines, place) then
  redis.call("ZADD", KEYS[6], place, place)
else
  redis.call("ZREM", KEYS[3], place)
  redis.call("ZREM", KEYS[5], place)
  if ticket[TICKET_LIVE] == 0 then
    flow_add(KEYS[13], "ended", redis.call("ZREM", KEYS[4], place))
    if ticket[TICKET_ADMITTED_AT_MS] > 0 and ticket[TICKET_RESERVATIONS] == 0 then
      flow_parts(KEYS[13], "left", {drop.now - ticket[TICKET_ADMITTED_AT_MS]}, drop.claim_window_ms)
    end
  end
  standby_leave({standby = KEYS[8], wants = KEYS[9], offers = KEYS[10]}, {place})
end
redis.call("XADD", KEYS[12], "*", "at_ms", string.format("%d", drop.now), "k", word, "p", cmsgpack.pack({place}), "why", reason,
  "entry", undrawn and "1" or "0")
redis.call("HSET", KEYS[1], "sequence", next_sequence(drop))
return done(drop, {word, place})
