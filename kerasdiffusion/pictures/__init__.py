"""Pictures in and out, and what a picture says of itself."""
