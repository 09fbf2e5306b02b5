"""Hashing, encryption and encrypted values: pure, and below everything that keeps a secret."""
