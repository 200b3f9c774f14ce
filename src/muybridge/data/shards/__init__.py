"""Packs: a data set as a few large tar files (shards) with an index, by which each recording is read at its offset."""
