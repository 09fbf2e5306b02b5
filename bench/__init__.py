"""What things cost: CPU time of a worker per call, with key auth, budget and spend log on."""
