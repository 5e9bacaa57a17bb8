"""What people are shown of a result: tables and pictures."""
