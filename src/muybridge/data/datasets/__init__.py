"""One benchmark per file, and the user's own."""
