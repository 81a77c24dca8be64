-- lock: what belongs to one lock. It stands first in the verbs that may make a token its owner.
--
-- KEYS     1 lock   2 held index of the bucket   3 fence of the bucket   4 queue of the lock: tokens in order
-- ARGV     1 token (its first 16 characters name the flow)   2 name of the lock   3 what the names of flows begin with:
--          root of all names, in a cluster the beginning of the bucket
local lock_key, held_key, fence_key, queue_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, name, root = ARGV[1], ARGV[2], ARGV[3]
local call = redis.call

