"""What lies around the targets: questions, comparison, child processes, model cards."""
