-- The drop as everybody may see it: what the serving document and the operator's views are made of.

local function snapshot(ledger, slots, returning, expiries)
  local drop, skus = ledger.drop, {}
  for i = 1, #drop.skus do
    local stock = ledger.stock[drop.skus[i]]
    skus[i] = {drop.skus[i], stock.allotment, stock.available, stock.reserved, stock.sold, stock.draining}
  end
  return {
    drop.effective, drop.epoch, drop.joins_at_ms, drop.opens_at_ms, drop.closes_at_ms, drop.rate_per_min,
    drop.capacity, drop.joined, drop.entries, drop.key, drop.serving_number, drop.admitted,
    redis.call("ZCARD", slots), redis.call("ZCARD", returning), redis.call("ZCARD", expiries),
    redis.call("ZCOUNT", expiries, "-inf", drop.now), drop.notice, drop.digest, skus,
  }
end
