# mypy: ignore-errors
"""Makes empty files without end, up to a ceiling."""

for number in range(1_500_000):
    open(f"/tmp/{number}", "w").close()
print("OPEN inodes")
