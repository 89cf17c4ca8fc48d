"""Waits for every fact about an execution and for deadlines, decides which step is next or overdue, says so and orders what undoes it."""
