"""The admin pages of held locks."""
