"""The studio: a page on which poses are drawn and sentences written, and an HTTP API that existing clients speak."""
