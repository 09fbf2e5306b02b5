"""The HTTP/1.1 client of the hot path. docs/performance.md says what it saves against a general one."""
