"""All that knows a backend, a device or a compiler."""
