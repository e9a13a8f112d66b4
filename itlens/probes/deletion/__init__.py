"""Parts of the faithfulness probe: orders of deletion, the runs and their numbers."""
