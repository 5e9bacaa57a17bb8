"""Readers of collections of cases, one per layout on disk."""
