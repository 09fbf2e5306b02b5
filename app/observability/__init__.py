"""Callbacks and alerts: who is told of calls, and of trouble. Nothing here may slow or fail a call."""
