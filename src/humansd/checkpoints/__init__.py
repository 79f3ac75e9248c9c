"""Weights of other tools, in and out: original key names, published files, pickles read as inert lists."""
