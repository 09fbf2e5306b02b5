"""Teams, their members, budgets, permissions and callbacks."""
