"""Real parts that tests run against: PostgreSQL, Redis, Chromium, and Quarterdeck as a separate process."""
