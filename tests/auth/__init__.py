"""Who is calling: credentials, keys, sign-in."""
