#!/bin/bash
# SPDX-License-Identifier: MIT
# Large models end to end: compiles two shapes with weights from a seed for the u280, says how fast and with how
# much memory, then decodes tokens on the card in the process and compares them, and their logits
# as bits, with the plain reference. Prints TAP; a shape that this machine has no room for is
# skipped. Names of shapes as arguments choose among them.
#
# BENCH_DIR is where the files go (default: the build directory), BENCH_CARD another card.
. "$(dirname "$0")/tap.sh"
card=${BENCH_CARD:-u280}
mkdir -p "${BENCH_DIR:=$b}" && large=$(mktemp -d "$BENCH_DIR/bench.XXXXXX") || exit 1
trap 'rm -rf "$work" "$large"' EXIT
export FLIGHTLLM_CARD_LIBRARY=$b/libflightllm-card.so

# timed NAME COMMAND...: output in NAME.out, what it cost in $elapsed (s) and $peak (bytes).
timed() {
	local name=$1 rc
	shift
	/usr/bin/time -q -f '%e %M' -o "$work/cost" "$@" >"$work/$name.out" 2>"$work/$name.err"
	rc=$?
	read -r elapsed peak <"$work/cost"
	peak=$((peak * 1024))
	[ $rc -eq 0 ] || sed 's/^/# /' "$work/$name.err"
	return $rc
}

# Memory that can be had and disk that is free, in bytes.
memory() { awk '/^MemAvailable/ { printf "%d\n", $2 * 1024 }' /proc/meminfo; }
disk() { df -B1 --output=avail "$large" | tail -n 1; }

# shape NAME GIBIBYTES TOKENS CHECKED: decodes TOKENS, of which the reference computes CHECKED.
shape() {
	local name=$1 need=$(($2 << 30)) tokens=$3 checked=$4 file=$large/$1.flm parameters bytes vocab
	local have_memory have_disk
	have_memory=$(memory) have_disk=$(disk)
	if [ "$have_memory" -lt "$need" ] || [ "$have_disk" -lt $((need / 2)) ]; then
		skip "$name on $card" "needs $2 GiB of memory and half of it on disk; there are $((have_memory >> 30)) and $((have_disk >> 30))"
		return
	fi
	ok "$name compiles for $card" timed compile "$b/flightllm-cc" --synthetic "$name" \
		--weights w8 --context 256 --card "$card" -o "$file" --json --no-progress || return
	parameters=$(sed -n 's/.*"parameters": \([0-9]*\).*/\1/p' "$work/compile.out")
	bytes=$(stat -c %s "$file")
	awk -v p="$parameters" -v s="$elapsed" -v m="$peak" -v b="$bytes" 'BEGIN {
		printf "# %.0f M parameters in %.1f s, %.1f M/s; file %.1f MiB, peak memory %.1f MiB = %.4f of it\n",
			p / 1e6, s, p / 1e6 / (s + 1e-3), b / 2^20, m / 2^20, m / b }'
	ok "$name: the compiler's peak memory is at most 1.2 of the file" \
		[ $((peak * 10)) -le $((bytes * 12)) ]

	ok "$name decodes $tokens tokens on the emulated card" timed decode \
		"$b/tests/e2e/decode" "$file" "emulate:$card" "$tokens" "$large/card.logits" || return
	echo "# tokens $(cat "$work/decode.out"): $(cat "$work/decode.err"); loading and all $elapsed s," \
		"peak $((peak >> 20)) MiB"
	ok "$name: the reference computes $checked" timed ref \
		"$b/tests/ref/ref_main" "$file" 1 -n "$checked" --logits "$large/ref.logits" || return
	echo "# tokens $(cat "$work/ref.out"): $elapsed s, peak $((peak >> 20)) MiB"
	ok "$name: the first $checked tokens are the reference's" \
		[ "$(cut -d' ' -f1-"$checked" "$work/decode.out")" = "$(cat "$work/ref.out")" ]
	vocab=$(($(stat -c %s "$large/ref.logits") / checked))
	ok "$name: $checked rows of $((vocab / 4)) logits are the reference's to the bit" \
		cmp -n $((vocab * checked)) "$large/card.logits" "$large/ref.logits"
	rm -f "$file"
}

wanted=" ${*:-llama-1b llama2-7b} "
[[ $wanted != *" llama-15m "* ]] || shape llama-15m 1 4 4
[[ $wanted != *" llama-1b "* ]] || shape llama-1b 4 4 4
[[ $wanted != *" llama2-7b "* ]] || shape llama2-7b 16 4 2
[ "$tap_count" -gt 0 ] || { echo "Bail out! no shape of that name:$wanted"; exit 1; }
done_testing
