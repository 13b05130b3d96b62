"""What a training would take: `scriven plan` calculates it before anything is built."""
