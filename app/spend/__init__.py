"""Money: what a call costs, what may still be spent, and where it is written down."""
