"""What every room stands on: atomic files, digests, locks, disk space, worker processes, a PNG's settings."""
