"""Runs on every Python that integr8s offers; 3.10 and later show a little more."""

import sys

version = "{}.{}".format(*sys.version_info[:2])
print("Hello from Python " + version)

words = "the quick brown fox jumps over the lazy dog".split()
print("longest words:", ", ".join(sorted(words, key=len, reverse=True)[:3]))

# Structural pattern matching and `X | Y` unions came with 3.10. Older versions cannot even read
# the syntax, so it is compiled only when it is reached.
NEWER = '''
def describe(value: int | str | list) -> str:
    match value:
        case int():
            return f"the number {value}"
        case [first, *rest]:
            return f"a list: {first!r} and {len(rest)} more"
        case _:
            return f"the text {value!r}"

for value in (42, "forty-two", [4, 2, 1]):
    print("match:", describe(value))
'''

try:
    exec(compile(NEWER, "newer.py", "exec"))
except SyntaxError:
    print("Structural pattern matching needs Python 3.10; this is " + version + ".")
