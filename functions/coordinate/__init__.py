"""Waits for executions that want a slot or gave one back, decides who is next, says where each stands."""
