"""Data sets built from images, addresses or prompts: sources, stages, engines, and the shards they end in."""
