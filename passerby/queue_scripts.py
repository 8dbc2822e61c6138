"""What Redis does to the queue in one step: adds an entry, finishes one, makes the stream again.

Redis refuses what needs memory once it is full (maxmemory), except in a script that has written
something before: what finishes an entry begins with a write that changes nothing, so that an entry
which was accepted can be indexed and acknowledged in a full Redis, which makes room.
"""

# Adding by hand may give an entry any id, and after one at the end of time the stream takes no
# other. The stream is then made again: entries past the year 33,000 get ids of today, the others
# keep theirs, and what is pending stays so. (XSETID does not go back, from Redis 7 on.) A consumer
# that has one of the moved entries in hand finds it finished by others.
_MEND = """
local function is_far(id) return #string.match(id, '%d+') > 15 end
local function last_id(stream)
  if redis.call('EXISTS', stream) == 0 then return '0-0' end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
local function field(info, name)
  for i = 1, #info, 2 do
    if info[i] == name then return info[i + 1] end
  end
end
local function mend(stream)
  if not is_far(last_id(stream)) then return 0 end
  local groups = redis.call('XINFO', 'GROUPS', stream)
  local pending = {}
  for i, group in ipairs(groups) do
    pending[i] = redis.call('XPENDING', stream, field(group, 'name'), '-', '+', 1000000)
  end
  local entries, far = redis.call('XRANGE', stream, '-', '+'), {}
  redis.call('DEL', stream)
  local now = redis.call('TIME')
  local last = string.format('%.0f-0', now[1] * 1000 + math.floor(now[2] / 1000))
  for _, entry in ipairs(entries) do
    local fields = entry[2]
    if is_far(entry[1]) then
      far[#far + 1] = fields
    else
      redis.call('XADD', stream, entry[1], unpack(fields, 1, math.min(#fields, 200)))
      if tonumber(string.match(entry[1], '%d+')) >= tonumber(string.match(last, '%d+')) then
        last = entry[1]
      end
    end
  end
  for i, group in ipairs(groups) do
    local delivered, name = field(group, 'last-delivered-id'), field(group, 'name')
    if is_far(delivered) then delivered = last end
    redis.call('XGROUP', 'CREATE', stream, name, delivered, 'MKSTREAM')
    for _, row in ipairs(pending[i]) do
      redis.call('XCLAIM', stream, name, row[2], 0, row[1],
        'IDLE', row[3], 'RETRYCOUNT', row[4], 'FORCE', 'JUSTID')
    end
  end
  if redis.call('EXISTS', stream) == 1 then redis.call('XSETID', stream, last) end
  for _, fields in ipairs(far) do
    redis.call('XADD', stream, '*', unpack(fields, 1, math.min(#fields, 200)))
  end
  return 1
end
local function memory()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return 0, 0 end
  return tonumber(string.match(info, 'used_memory:(%d+)')),
    tonumber(string.match(info, 'maxmemory:(%d+)'))
end
local function add(stream, ...)
  local id = redis.pcall('XADD', stream, '*', ...)
  if type(id) == 'table' and id.err then
    if mend(stream) == 0 then return id end
    id = redis.call('XADD', stream, '*', ...)
  end
  return id
end
"""

# KEYS: a stream. Returns 1 if it had to be made again.
MEND = f"{_MEND} return mend(KEYS[1])"

# KEYS: the queue. Sets `last`: the id of the last entry that was ever added to it.
LAST_ENTRY = f"{_MEND} mend(KEYS[1]) local last = last_id(KEYS[1])\n"

# KEYS: the queue, AWAITED. ARGV: entries that it may hold, the share of maxmemory that it may fill
# with all else, the batch, the pusher's receipts. Returns the entry's id; or an empty text, then
# the bytes that Redis uses and those that it may use, if these were the reason.
ADD = f"""
{_MEND}
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return {{'', 0, 0}} end
local used, most = memory()
if most > 0 and used + #ARGV[3] > most * ARGV[2] then return {{'', used, most}} end
local entry = add(KEYS[1], 'batch', ARGV[3])
if type(entry) == 'table' then return entry end
redis.call('HSET', KEYS[2], entry, ARGV[4])
return {{entry, 0, 0}}
"""

# The oldest go first. The last hundred stay however little memory there is; their bytes are kept
# only while all letters take less than is allowed, and than a quarter of maxmemory.
# KEYS[2]: the dead letters, KEYS[3]: their counts.
_TRIM = """
local function letters_bytes()
  return redis.call('MEMORY', 'USAGE', KEYS[2], 'SAMPLES', '0') or 0
end
local function allowed(bytes)
  local _, most = memory()
  return most > 0 and math.min(bytes, most / 4) or bytes
end
local function trim(most, most_bytes, most_age_ms)
  most_bytes = allowed(most_bytes)
  local dropped, now = 0, redis.call('TIME')
  local since = now[1] * 1000 + math.floor(now[2] / 1000) - most_age_ms
  while true do
    local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
    if not first then return dropped end
    local is_old = tonumber(string.match(first[1], '%d+')) < since
    local letters = redis.call('XLEN', KEYS[2])
    if not (is_old or letters > most or letters > 100 and letters_bytes() > most_bytes) then
      return dropped
    end
    local gallery = field(first[2], 'gallery')
    redis.call('XDEL', KEYS[2], first[1])
    if gallery and redis.call('HINCRBY', KEYS[3], gallery, -1) <= 0 then
      redis.call('HDEL', KEYS[3], gallery)
    end
    dropped = dropped + 1
  end
end
"""

# KEYS: any, the dead letters, their counts. ARGV: letters, their bytes and age in ms at most.
TRIM = f"{_MEND} {_TRIM} return trim(tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]))"

# Ends an entry: its dead letters, its acknowledgement and the pusher's receipt, all or none, and
# once, whoever else had it in hand and whichever answer got lost.
# KEYS: the queue, the dead letters, their counts, AWAITED. ARGV: group, entry, outcome, then as
# TRIM's, and for each letter: whose count (or empty), how many values there are and these, how many
# there are to push again and these, and what is said where they cannot be kept.
# Returns -1 if another consumer has finished it, else how many old letters had to go.
FINISH = f"""
{_MEND} {_TRIM}
redis.call('XACK', KEYS[1], ARGV[1], '0-0')
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return -1 end
local receipt, at = ARGV[3], 7
while at <= #ARGV do
  local values, gallery, bytes = {{}}, ARGV[at], 0
  local last = at + 1 + tonumber(ARGV[at + 1])
  for i = at + 2, last do values[#values + 1] = ARGV[i] end
  local more = last + 1 + tonumber(ARGV[last + 1])
  for i = last + 2, more do bytes = bytes + #ARGV[i] end
  if bytes > {4096} and letters_bytes() + bytes > allowed(tonumber(ARGV[5])) then
    values[#values + 1], values[#values + 2] = 'not_kept', ARGV[more + 1]
  else
    for i = last + 2, more do values[#values + 1] = ARGV[i] end
  end
  local letter = add(KEYS[2], unpack(values))
  if type(letter) == 'table' then return letter end
  if gallery ~= '' then redis.call('HINCRBY', KEYS[3], gallery, 1) end
  receipt, at = receipt .. ' ' .. letter, more + 2
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
local receipts = redis.call('HGET', KEYS[4], ARGV[2])
if receipts then
  redis.call('HDEL', KEYS[4], ARGV[2])
  redis.call('HSET', receipts, ARGV[2], receipt)
  redis.call('EXPIRE', receipts, 86400)
end
if #ARGV < 7 then return 0 end
return trim(tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
"""
