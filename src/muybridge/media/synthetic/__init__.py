"""Generated data: videos of moving shapes on textured backgrounds, and recordings of stick figures."""
