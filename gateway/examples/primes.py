"""Prints prime numbers for about five seconds, so that one can watch the output come live."""

import time

SECONDS = 5
LINES = 20


def is_prime(number):
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            return False
        divisor += 1
    return number > 1


begun = time.monotonic()
found, number = 0, 1
for line in range(LINES):
    primes = []
    while len(primes) < 8:
        number += 1
        if is_prime(number):
            primes.append(number)
    found += len(primes)
    print(" ".join("{:>4}".format(prime) for prime in primes), flush=True)
    # At an even pace: a computer finds them faster than anybody reads.
    time.sleep(max(0.0, begun + (line + 1) * SECONDS / LINES - time.monotonic()))

print("{} primes, the last one {}, in {:.1f} s".format(found, number, time.monotonic() - begun))
