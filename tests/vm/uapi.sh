#!/bin/bash
# SPDX-License-Identifier: MIT
# The tests of the ioctls, in the VM, against the driver: one boot for all of them.
. "$(dirname "$0")/../vm.sh"

cache=${FLIGHTLLM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/flightllm}
programs=()
for source in tests/uapi/*.c; do
	name=$(basename "$source" .c)
	programs+=("$b/tests/uapi/$name")
done
# The harness is the kernel's; it comes from its source package.
if ! make -s B="$b" CFLAGS="-isystem $cache/selftests/tools/testing/selftests" \
	"${programs[@]}" >"$work/make" 2>&1; then
	sed 's/^/# /' "$work/make"
	ok "the tests build" false
	done_testing
fi
"$vm" --card "${UAPI_CARD:-tiny}" --append iomem=relaxed --timeout 800 --serial-log "$work/log" --no-stdin -- \
	bash tests/inside.sh 120 "${programs[@]}"
status=$?
[ $status -le 1 ] || vm_show
exit $status
