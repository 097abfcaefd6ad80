-- Places in the line from before a loss, taken up again: a signed receipt says which number a ticket had in an earlier epoch.
-- Numbers from restore_from (inclusive) to restore_to (exclusive) were given then and by nobody since; `restored` holds
-- those that somebody has back. No number is ever two tickets': everything else gets a new one. Each line has such a range;
-- those of the groups' lines are packed in restore_lines.

-- `numbers`: the places that receipts name in this call.
local function places_open(keys, lines, numbers)
  local range = redis.call("HMGET", keys.drop, "restore_from", "restore_to", "restore_lines")
  local packed = range[3] and range[3] ~= "" and cmsgpack.unpack(range[3]) or {}
  local places = {lines = lines, ranges = {[0] = {tonumber(range[1] or "") or 0, tonumber(range[2] or "") or 0}}, holder = {}, given = {}}
  for i = 1, #lines do places.ranges[i] = packed[i] or {0, 0} end
  local holders = redis.call("HMGET", keys.restored, unpack(numbers))
  for i = 1, #numbers do places.holder[numbers[i]] = holders[i] end
  return places
end

-- True when `place` of an earlier epoch is the ticket's again. While nobody has joined since, numbers that the recovery
-- knew nothing of still follow on those it did.
local function take_place(places, drop, ticket_id, place, epoch)
  local at, number = line_of(place), place % LINE_STRIDE
  local range, line = places.ranges[at], places.lines[at]
  if not range or epoch >= drop.epoch or places.holder[place] or number < range[1] then return false end
  if number >= range[2] then
    if line.joined ~= range[2] or number >= drop.tickets_max then return false end
    range[2], line.joined, places.raised = number + 1, number + 1, true
  end
  places.holder[place] = ticket_id
  local n = #places.given
  places.given[n + 1], places.given[n + 2] = place, ticket_id
  return true
end

-- Appends the fields of the drop that change with it; the caller writes them.
local function places_fields(places, fields)
  if not places.raised then return end
  local packed = {}
  for i = 1, #places.lines do packed[i] = places.ranges[i] end
  fields[#fields + 1], fields[#fields + 2] = "restore_to", places.ranges[0][2]
  if #packed > 0 then fields[#fields + 1], fields[#fields + 2] = "restore_lines", cmsgpack.pack(packed) end
end
