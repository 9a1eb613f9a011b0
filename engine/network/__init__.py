"""The sequence transformer and how it is trained."""
