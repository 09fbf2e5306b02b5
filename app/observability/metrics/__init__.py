"""Prometheus metrics: what is counted of calls, and how a scrape of one process answers for all of an instance."""
