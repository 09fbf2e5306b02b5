"""Deployments added over the API, model lists and metrics, access groups, provider credentials."""
