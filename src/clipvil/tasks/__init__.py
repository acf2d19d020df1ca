"""Tasks: what is asked of a model, how it is trained on it and how it is judged; one file a task."""
