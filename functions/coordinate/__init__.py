"""Waits for executions that want or return a slot, decides who is next, says where each stands."""
