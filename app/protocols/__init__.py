"""HttpClient dialects: pure translation in both directions, no I/O."""
