"""No test may depend on the calendar: what finds those that do, by reading them and by running them on other days."""
