"""Who is calling: credentials, principals, sign-in."""
