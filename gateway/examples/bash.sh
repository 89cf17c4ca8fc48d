# Runs on every Bash that integr8s offers; 5.2 and later show a little more.

echo "Hello from Bash ${BASH_VERSION%%(*}"

words=(the quick brown fox jumps over the lazy dog)
longest=""
for word in "${words[@]}"; do
  (( ${#word} > ${#longest} )) && longest=$word
done
echo "longest word: $longest"

# The transformation @k, which keeps the words of an array apart, came with 5.2.
if (( BASH_VERSINFO[0] > 5 || (BASH_VERSINFO[0] == 5 && BASH_VERSINFO[1] >= 2) )); then
  declare -A ages=([ada]=36 [grace]=85)
  pairs=("${ages[@]@k}")
  echo "transformation @k: ${#pairs[@]} words from ${#ages[@]} entries"
else
  echo "The transformation @k needs Bash 5.2; this is ${BASH_VERSION%%(*}."
fi
