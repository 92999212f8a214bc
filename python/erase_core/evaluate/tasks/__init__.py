"""What is compared on: a task of examples and questions, and which examples are to be forgotten."""
