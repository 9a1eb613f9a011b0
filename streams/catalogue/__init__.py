"""items, rows -> what is known of items, by row."""
