"""Spend logs, reports and daily activity; budgets and tags."""
