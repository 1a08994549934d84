"""What Redis runs in one piece.

Each script may run twice, since a call without an answer is made again: the second time changes nothing more.
Redis refuses a script for want of memory at its first write or not at all: so that is one that needs some.
``KEYS`` lie on one node. The lease of a key is a hash with the ``token`` of its holder and the time, in
milliseconds since 1970, ``until`` which it holds. The hash outlives that time, so that a holder that was late
can tell whether somebody else has had the lease since.
"""

__all__ = ["APPEND", "CREATE", "LEASE", "RELEASE", "RENEW"]

CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DEL', KEYS[1]) end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""
"""The entries' list; its time to live, then the entries."""

APPEND = """
local length = redis.call('LLEN', KEYS[1])
if length == 0 then return 0 end
local before = tonumber(ARGV[2])
if length == before + #ARGV - 4 and redis.call('GET', KEYS[2]) == ARGV[3] then return 1 end
if length ~= before then return 0 end
if ARGV[4] == '1' and redis.call('HGET', KEYS[3], 'token') ~= ARGV[3] then return 0 end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[1])
return 1
"""
"""The list, the token of the last append, the lease; time to live, length, token, whether it has to have the
lease, then the entries."""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function hold(token, milliseconds)
    redis.call('HSET', KEYS[1], 'token', token, 'until', now + milliseconds)
    redis.call('PEXPIRE', KEYS[1], milliseconds + 3600000)
end
"""

LEASE = (
    _NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'token', 'until')
if held[1] and held[1] ~= ARGV[1] and tonumber(held[2]) > now then
    if not redis.call('LPOS', KEYS[2], ARGV[1]) then redis.call('RPUSH', KEYS[2], ARGV[1]) end
    redis.call('PEXPIRE', KEYS[2], 3600000)
    return tonumber(held[2]) - now
end
hold(ARGV[1], tonumber(ARGV[2]))
redis.call('LREM', KEYS[2], 0, ARGV[1])
return 0
"""
)
"""The lease, and those who wait; token and time. Returns 0, or how long the holder still has it."""

RENEW = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
hold(ARGV[1], tonumber(ARGV[2]))
return 1
"""
)
"""The lease; token and time."""

RELEASE = (
    _NOW
    + """
redis.call('LREM', KEYS[2], 0, ARGV[1])
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return false end
local following = redis.call('LPOP', KEYS[2])
if following then hold(following, tonumber(ARGV[2])) else redis.call('DEL', KEYS[1]) end
return following
"""
)
"""The lease, and those who wait; token, and the time for which it is kept for the first of them.

Returns the token of that one; made again after it was done it returns nothing, and that one finds out later.
"""
