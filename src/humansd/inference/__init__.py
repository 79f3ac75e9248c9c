"""From a model's name to images: load it, find poses, draw, write with their settings."""
