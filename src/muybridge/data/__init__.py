"""From an index of files to batches."""
