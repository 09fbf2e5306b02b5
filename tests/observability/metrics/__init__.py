"""Tests of the Prometheus metrics."""
