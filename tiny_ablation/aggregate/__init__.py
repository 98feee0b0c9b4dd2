"""From per-example values to tables, intervals and summaries: of a run, and of a sweep."""
