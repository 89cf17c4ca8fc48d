# mypy: ignore-errors
"""Calls out to every kind of address."""

import errno
import socket
import time

begun = time.monotonic()
for kind, family, address in (
    ("tcp4", socket.AF_INET, ("1.1.1.1", 443)),
    ("tcp6", socket.AF_INET6, ("2606:4700:4700::1111", 443)),
    ("metadata", socket.AF_INET, ("169.254.169.254", 80)),
    ("private", socket.AF_INET, ("10.0.0.1", 80)),
    ("loopback", socket.AF_INET, ("127.0.0.1", 22)),
    ("linklocal", socket.AF_INET6, ("fe80::1", 80)),
):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(3)
        try:
            one.connect(address)
            print("OPEN", kind)
        except OSError as error:
            print("refused", kind, errno.errorcode.get(error.errno, "?"))
for kind, family, address in (
    ("udp4", socket.AF_INET, ("8.8.8.8", 53)),
    ("udp6", socket.AF_INET6, ("2001:4860:4860::8888", 53)),
):
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        try:
            one.sendto(b"x", address)
            print("OPEN", kind)
        except OSError as error:
            print("refused", kind, errno.errorcode.get(error.errno, "?"))
try:
    socket.getaddrinfo("example.com", 80)
    print("OPEN resolver")
except OSError:
    print("refused resolver")
print("OPEN slow" if time.monotonic() - begun > 2 else "refused slow")
with socket.create_server(("127.0.0.1", 8099)) as server:
    socket.create_connection(server.getsockname()).close()
    print("own loopback works")
print("done")
