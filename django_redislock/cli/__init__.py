"""What `manage.py redislock` does, one module for each word after it."""
