-- The lines of a drop: line 0 is everybody's, and each group with a share of the rate has one of its own. A place is
-- line * LINE_STRIDE + number; with one line it is the number. What is said of a line is kept apart from the others: how many
-- joined, who is served, its draw.
local LINE_STRIDE = 1000000000

local function line_of(place) return math.floor(place / LINE_STRIDE) end

-- The lines by their index from 0, from the fields of `drop`. `entries` is nil until the opening fixes it.
local function read_lines(drop)
  local lines = {[0] = {
    group = "", share = 0, joined = drop.joined, entries = tonumber(drop.entries), serving = drop.serving_number, key = drop.key,
    root = drop.root, credit = 0,
  }}
  if drop.lines ~= "" then
    local packed = cmsgpack.unpack(drop.lines)
    for i = 1, #packed do
      local p = packed[i]
      lines[i] = {
        group = p[1], share = p[2], joined = p[3], entries = p[4] >= 0 and p[4] or nil, serving = p[5], key = p[6], root = p[7],
        credit = p[8],
      }
    end
  end
  return lines
end

-- Appends the fields of the drop that say what its lines are now.
local function lines_fields(lines, fields)
  local function set(name, value) fields[#fields + 1], fields[#fields + 2] = name, value end
  local first = lines[0]
  set("joined", first.joined)
  set("entries", first.entries and tostring(first.entries) or "")
  set("serving_number", first.serving)
  set("key", first.key)
  set("root", first.root)
  if #lines > 0 then
    local packed = {}
    for i = 1, #lines do
      local line = lines[i]
      packed[i] = {line.group, line.share, line.joined, line.entries or -1, line.serving, line.key, line.root, line.credit}
    end
    set("lines", cmsgpack.pack(packed))
  end
  return fields
end

-- The opening fixes who is in the draw: whoever comes first after it does it.
local function fix_entries(lines)
  for i = 0, #lines do lines[i].entries = lines[i].entries or lines[i].joined end
end

local function joined_in_all(lines)
  local total = 0
  for i = 0, #lines do total = total + lines[i].joined end
  return total
end

-- Whether it is known in which order the line goes. A drop without a draw goes by arrival.
local function is_drawn(drop, line) return drop.order ~= "draw" or line.key ~= "" end

-- Whether a place was called before.
local function is_called(lines, place)
  local line = lines[line_of(place)]
  return line and place % LINE_STRIDE < line.serving
end

-- So much of a draw's key tells it from any other.
local DRAW_MARK_CHARS = 16

-- The place in the order of the line: that of an entry follows from the draw, and the caller has worked it out. `entry` says for
-- which place, `mark` by which draw: one who knows no draw, or another, has not. Answers nil when the caller has to be told the
-- place first; nil and true when nothing is drawn yet.
local function turn_of(drop, lines, ticket, entry, queue, mark)
  if ticket[TICKET_LATE] == 1 or drop.order ~= "draw" then return ticket[TICKET_PLACE] end
  if ticket[TICKET_TURN] >= 0 then return ticket[TICKET_TURN] end
  local line = lines[line_of(ticket[TICKET_PLACE])]
  if not line or line.key == "" then return nil, true end
  -- Joined in a store that had gone back in time, when fewer were drawn: it comes behind them.
  if ticket[TICKET_PLACE] % LINE_STRIDE >= line.entries then return ticket[TICKET_PLACE] end
  if queue < 0 or entry ~= ticket[TICKET_PLACE] or mark ~= line.key:sub(1, DRAW_MARK_CHARS) then return nil end
  if line_of(queue) ~= line_of(entry) or queue % LINE_STRIDE >= line.entries then return nil end
  return queue
end
