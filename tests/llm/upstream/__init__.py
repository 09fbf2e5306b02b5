"""Tests of the HTTP client of the hot path, over real sockets and on both event loops."""
