"""Users, invitations, passwords and end users."""
