"""Who changed what, and how that is read."""
