"""What can be learnt: one file a task, its settings beside it."""
