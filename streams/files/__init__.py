"""files of events -> events: readers, their checks, replay and backfill."""
