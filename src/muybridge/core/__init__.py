"""Basic types, contracts, skeleton layouts and errors. Imports nothing else of muybridge."""
