#!/bin/bash
# SPDX-License-Identifier: MIT
# Good input: what passes print (cases/NAME.want), and what must hold of the files. Prints TAP.
. "$(dirname "$0")/../tap.sh"
cc=$b/flightllm-cc cases=tests/compiler/cases

# prints NAME ARGUMENT...: standard output is cases/NAME.want.
prints() {
	local name=$1
	shift
	"$cc" "$@" 2>&1 | diff - "$cases/$name.want"
}

# number FILE KEY: of the line that --json printed.
number() {
	sed -E "s/.*\"$2\": ([0-9.]+).*/\1/" "$1"
}

# at_most A B: numbers
at_most() {
	awk -v a="$1" -v b="$2" 'BEGIN { print a, "at most", b; exit !(a <= b) }'
}

for pass in graph fuse; do
	ok "$pass of fables-3m" prints fables-$pass tests/data/fables-3m -d $pass
done
for pass in tile place emit; do
	ok "$pass of the smallest model on the smallest card" prints tiny-$pass --synthetic tiny \
		--card tiny --hadamard auto -d $pass
done

# Whoever only waits or releases does so by a sync; ld.kv's queries count with a mask only.
"$cc" tests/data/fables-3m -d emit >"$work/emit"
ok "no instruction has a size of zero" \
	test -z "$(grep -E ' (rows|cols|bytes|strips|count|positions|tokens)=(0/|[^ ]*/0( |$))' "$work/emit")"
rm "$work/emit"
"$cc" tests/data/fables-3m -o "$work/a.flm" --threads 1 --json >"$work/a.json"
"$cc" tests/data/fables-3m -o "$work/b.flm" --threads 2 --no-progress >/dev/null
ok "the same model gives the same file, whatever the threads" cmp "$work/a.flm" "$work/b.flm"
"$cc" --synthetic tiny -o "$work/c.flm" >/dev/null
"$cc" --synthetic tiny:1 -o "$work/d.flm" >/dev/null
ok "another seed gives another file" test -n "$(cmp "$work/c.flm" "$work/d.flm")"
ok "no file is left but those asked for" test "$(ls "$work")" = "a.flm
a.json
b.flm
c.flm
d.flm"
ok "a chunk's streams take at most 11 KB" at_most "$(number "$work/a.json" prefill_bytes)" 11000
ok "a token's streams take at most 9 KB" at_most "$(number "$work/a.json" decode_bytes)" 9000
ok "8 bits with scales, padding and tables are at most 8.5" \
	at_most "$(number "$work/a.json" bits)" 8.5

for format in w8 w4; do
	"$cc" --synthetic llama-110m --weights $format -o "$work/big.flm" --json >"$work/big.json"
	limit=$(awk -v b="$(number "$work/big.json" bytes)" 'BEGIN { print 1.2 * b }')
	ok "the compiler's memory is at most 1.2 x the file ($format)" \
		at_most "$(number "$work/big.json" peak_bytes)" "$limit"
done
ok "4 bits with scales, padding and tables are at most 4.3" \
	at_most "$(number "$work/big.json" bits)" 4.3
"$cc" --synthetic llama2-7b -d graph 2>"$work/note" >/dev/null
ok "a 7B shape is mapped and proven on u280" test $? -eq 0
ok "a context that nobody asked for is cut, and that is said" test "$(cat "$work/note")" = \
	"flightllm-cc: a context of 3776, as much as card u280 holds with 128 tokens a pass; the model's is 4096"
"$cc" --synthetic llama2-7b --card vhk158 -d graph >/dev/null
ok "a 7B shape is mapped and proven on vhk158" test $? -eq 0
done_testing
