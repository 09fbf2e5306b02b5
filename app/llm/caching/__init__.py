"""The response cache: answers stored in this process or in Redis, and served again to the same request."""
