"""The data plane: calls from clients to providers."""
