-- Checks of arguments. A violation is a programming error: it ends the script before anything is written.
-- They run several times a request, so they look nothing up by name and leave fractions to the modulo operator.

local type = type

local function bad_argument(what)
  error({err = "BADARG " .. what})
end

local function whole(value, low, high, name)
  if type(value) ~= "number" or value % 1 ~= 0 or value < low or value > high then
    bad_argument(name .. " must be a whole number from " .. low .. " to " .. high)
  end
  return value
end

local function text(value, length_max, name)
  if type(value) ~= "string" or #value == 0 or #value > length_max then
    bad_argument(name .. " must be text of 1 to " .. length_max .. " bytes")
  end
  return value
end

local function text_or_empty(value, length_max, name)
  if type(value) ~= "string" or #value > length_max then
    bad_argument(name .. " must be text of at most " .. length_max .. " bytes")
  end
  return value
end

-- The msgpack array in `packed`, with at least one and at most `count_max` elements.
local function unpack_array(packed, count_max, name)
  local done, value = pcall(cmsgpack.unpack, packed or "")
  if not done or type(value) ~= "table" or #value == 0 or #value > count_max then
    bad_argument(name .. " must be a msgpack array of 1 to " .. count_max .. " elements")
  end
  return value
end

-- What somebody wants: pairs of SKU and quantity, each SKU once.
local ITEMS_MAX = 10
local QUANTITY_MAX = 1000

local function check_items(items)
  if type(items) ~= "table" or #items == 0 or #items > ITEMS_MAX then bad_argument("items must be 1 to 10 pairs") end
  for j = 1, #items do
    local sku = text(items[j][1], 64, "sku")
    for k = 1, j - 1 do
      if items[k][1] == sku then bad_argument("items must name each SKU once") end
    end
    whole(items[j][2], 1, QUANTITY_MAX, "quantity")
  end
end

local BATCH_MAX = 1024
