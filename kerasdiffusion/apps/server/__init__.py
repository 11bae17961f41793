"""The server: faces that translate to a `Request` and back, before one queue."""
