"""A small bank that shows and tries out django_redislock."""
