"""Waits for facts and deadlines, decides what is next or overdue, orders what undoes it."""
