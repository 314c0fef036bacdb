#!/bin/bash
# SPDX-License-Identifier: MIT
# The ioctl tests of tests/uapi against the card in the process: lib/soft must refuse what the
# driver refuses and answer as it does. Their harness is the kernel's; where tools/setup.sh has not
# fetched it, all is skipped. Prints TAP.
. "$(dirname "$0")/../tap.sh"
harness=${FLIGHTLLM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/flightllm}/selftests/tools/testing/selftests
[ -r "$harness/kselftest_harness.h" ] ||
	skip_all "no kselftest_harness.h; 'tools/setup.sh --selftests' fetches it"
export FLIGHTLLM_CARD_LIBRARY=$b/libflightllm-card.so FLIGHTLLM_EMULATE=tiny
names=(query bo context queue submit wait reset)

ok "the tests build" make -s B="$b" CFLAGS="-isystem $harness" "${names[@]/#/$b/tests/uapi/}"
for name in "${names[@]}"; do
	timeout -k 5 60 "$b/tests/uapi/$name" >"$work/out" 2>&1
	status=$?
	adopt "" "" <"$work/out"
	ok "$name ends in order" [ $((status <= 1 && adopted > 0)) = 1 ] || echo "# status $status"
done
done_testing
