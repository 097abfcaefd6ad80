-- The drop as everybody may see it: what the serving document and the operator's views are made of.

local function snapshot(ledger, lines, keys)
  local drop, skus, pictures = ledger.drop, {}, {}
  for i = 1, #drop.skus do
    local stock = ledger.stock[drop.skus[i]]
    skus[i] = {drop.skus[i], stock.allotment, stock.available, stock.reserved, stock.sold, stock.draining}
  end
  for i = 0, #lines do
    local line = lines[i]
    pictures[i + 1] = {line.group, line.share, line.joined, line.entries or -1, line.serving, line.key, line.root}
  end
  return {
    drop.effective, drop.epoch, drop.joins_at_ms, drop.opens_at_ms, drop.closes_at_ms, drop.rate_per_min,
    drop.capacity, lines[0].joined, lines[0].entries and tostring(lines[0].entries) or "", lines[0].key, lines[0].serving, drop.admitted,
    redis.call("ZCARD", keys.slots), redis.call("ZCARD", keys.returning), redis.call("ZCARD", keys.expiries),
    redis.call("ZCOUNT", keys.expiries, "-inf", drop.now), drop.notice, drop.digest, skus,
    pictures, flow_picture(keys, drop), drop.order, drop.drawn_at_ms, redis.call("ZCARD", keys.leaving),
    drop.joining, drop.now < drop.signal_until_ms and drop.signal or 1000,
  }
end
