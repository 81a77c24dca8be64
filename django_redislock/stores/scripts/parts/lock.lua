-- lock: what belongs to one lock. It stands first in the verbs that may make a token its owner.
--
-- KEYS     1 lock   2 held index   3 fence   4 queue of the lock: tokens in order; in a cluster the index and the fence
--          are those of the bucket
-- ARGV     1 token (its first 16 characters name the flow)   2 root of all names, in a cluster the beginning of the bucket
local lock_key, held_key, fence_key, queue_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, root = ARGV[1], ARGV[2]
local call = redis.call

