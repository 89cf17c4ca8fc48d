# Prints Fibonacci numbers, one every fifth of a second.

a=0 b=1
for (( n = 1; n <= 20; n++ )); do
  printf 'F(%d) = %d\n' "$n" "$b"
  (( next = a + b, a = b, b = next ))
  sleep 0.2
done
