"""What an answer is worth: one file per family of metrics."""
