"""The HTTP API: takes uploads in, keeps the promise of a 202, hands results out. It never reads an image."""
