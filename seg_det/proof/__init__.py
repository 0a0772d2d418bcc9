"""Proves that an exported file is the model that it was made from."""
