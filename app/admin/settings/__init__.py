"""Settings that the API changes: configuration, callbacks, response cache, router, dashboard, pass-through."""
