"""The tables, as PostgreSQL and SQLite hold them."""
