"""HTTP client for probes and hooks: one request at a time, HTTP/1.1 over h11, never blocking."""
