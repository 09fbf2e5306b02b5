"""Answers that are kept, in this process or in Redis, and given again to the same request."""
