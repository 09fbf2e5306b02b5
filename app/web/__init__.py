"""What every request and answer shares: fields, bodies, error answers, addresses behind proxies, assets, health."""
