"""Migrations, applied in order by `quarterdeck migrate`. Never edited after a release."""
