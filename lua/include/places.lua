-- Places in the line from before a loss, taken up again: a signed receipt says which number a ticket had in an earlier epoch.
-- Numbers from restore_from (inclusive) to restore_to (exclusive) were given then and by nobody since; `restored` holds
-- those that somebody has back. No number is ever two tickets': everything else gets a new one.

-- `numbers`: those that receipts name in this call.
local function places_open(keys, drop, numbers)
  local range = redis.call("HMGET", keys.drop, "restore_from", "restore_to")
  local places = {drop = drop, from = tonumber(range[1] or "") or 0, to = tonumber(range[2] or "") or 0, holder = {}, given = {}}
  local holders = redis.call("HMGET", keys.restored, unpack(numbers))
  for i = 1, #numbers do places.holder[numbers[i]] = holders[i] end
  return places
end

-- True when `number` of an earlier epoch is the ticket's again. While nobody has joined since, numbers that the recovery
-- knew nothing of still follow on those it did.
local function take_place(places, ticket_id, number, epoch)
  local drop = places.drop
  if epoch >= drop.epoch or places.holder[number] or number < places.from then return false end
  if number >= places.to then
    if drop.joined ~= places.to or number >= drop.tickets_max then return false end
    places.to, drop.joined, places.raised = number + 1, number + 1, true
  end
  places.holder[number] = ticket_id
  local n = #places.given
  places.given[n + 1], places.given[n + 2] = number, ticket_id
  return true
end

-- The fields of the drop that change with it; the caller writes them.
local function places_fields(places)
  return places.raised and {"restore_to", places.to, "joined", places.drop.joined} or {}
end
