"""Labelled recordings and parts of recordings, as tables and annotation tools write them."""
