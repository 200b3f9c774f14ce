"""Files in, clips and skeletons out."""
