"""From `model_list` or a stored row to a target of calls: a deployment, the catalog of all, and names with a star."""
