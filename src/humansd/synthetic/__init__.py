"""Atelier: rendered people with exact key points, masks and captions; a data source without a download."""
