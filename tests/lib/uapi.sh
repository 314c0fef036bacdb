#!/bin/bash
# SPDX-License-Identifier: MIT
# The ioctl tests of tests/uapi against the card in the process: lib/soft.c must refuse what the
# driver refuses and answer as it does. Their harness is the kernel's; where tools/setup.sh has not
# fetched it, all is skipped. Prints TAP.
cd "$(dirname "$0")/../.." || exit 1
b=${B:-build}
harness=${FLIGHTLLM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/flightllm}/selftests/tools/testing/selftests
if [ ! -r "$harness/kselftest_harness.h" ]; then
	echo "1..0 # SKIP no kselftest_harness.h; 'tools/setup.sh --selftests' fetches it"
	exit 0
fi
export FLIGHTLLM_CARD_LIBRARY=$b/libflightllm-card.so FLIGHTLLM_EMULATE=tiny
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
names=(query bo context queue submit wait reset)
n=0 failed=0

say() {
	n=$((n + 1))
	[[ $1 == ok ]] || [[ $2 == *"# SKIP"* ]] || failed=1
	echo "$1 $n - $2"
}

if ! make -s B="$b" CFLAGS="-isystem $harness" "${names[@]/#/$b/tests/uapi/}" >"$work/make" 2>&1; then
	sed 's/^/# /' "$work/make"
	say "not ok" "the tests build"
fi
for name in "${names[@]}"; do
	timeout -k 5 60 "$b/tests/uapi/$name" >"$work/out" 2>&1
	status=$?
	claims=0
	while IFS= read -r line; do
		if [[ $line =~ ^(not\ ok|ok)\ [0-9]+\ (.*) ]]; then
			claims=$((claims + 1))
			say "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
		else
			echo "# $line"
		fi
	done <"$work/out"
	if [ $status -le 1 ] && [ $claims -gt 0 ]; then
		say ok "$name ends in order"
	else
		say "not ok" "$name ends in order (status $status)"
	fi
done
echo "1..$n"
exit $failed
