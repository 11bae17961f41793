"""The page for people: widgets that make requests, which the server paints."""
