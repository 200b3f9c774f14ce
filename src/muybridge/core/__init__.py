"""The words of the language: types, contracts, skeleton layouts, errors. Imports nothing else of muybridge."""
