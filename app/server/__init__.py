"""The servers that carry an instance, and the demo that starts several."""
