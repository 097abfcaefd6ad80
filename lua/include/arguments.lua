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

local BATCH_MAX = 1024
