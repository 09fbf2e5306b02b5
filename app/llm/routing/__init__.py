"""Where a call goes: the choice among deployments, their cooldowns, tries and fallbacks."""
