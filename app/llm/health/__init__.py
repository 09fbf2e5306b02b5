"""Health checks of deployments: one call each, on request and in the background."""
