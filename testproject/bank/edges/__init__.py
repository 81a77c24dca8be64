"""Each kind of view, a command's work and tasks, with the lock at the edge."""
