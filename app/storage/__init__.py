"""The database and its engines, Redis, words between processes, clean-up, stored settings."""
