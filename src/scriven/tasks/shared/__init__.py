"""What fine-tuning tasks share: the columns they read, labelled inputs, and written answers."""
