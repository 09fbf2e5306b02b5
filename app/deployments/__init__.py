"""Deployments: from `model_list` or a stored row to a target of calls, the catalog of all, and wildcard model names."""
