#!/bin/bash
# SPDX-License-Identifier: MIT
# Who may include whom. Prints TAP; an include that follows no arrow fails and is named.
cd "$(dirname "$0")/.." || exit 1
n=0 bad=0

# arrow FOLDER PATTERN: project includes of FOLDER's files must match PATTERN.
arrow() {
	local wrong
	wrong=$(grep -rnE '^#include ["<](lib/|emulator/|compiler/|tools/|tests/|kernel/|flightllm/|drm/flightllm|\.\./)' \
		--include='*.[ch]' --include='*.def' "$1" 2>/dev/null | grep -vE "#include [\"<]($2)")
	n=$((n + 1))
	if [ -z "$wrong" ]; then
		echo "ok $n - $1 includes only what it may"
	else
		bad=1
		echo "not ok $n - $1 includes only what it may"
		sed 's/^/# /' <<<"$wrong"
	fi
}

contracts='flightllm/|drm/flightllm_accel.h'
arrow kernel "$contracts"
arrow kernel/include "flightllm/"
arrow lib "$contracts|lib/|emulator/card.h"
arrow compiler "$contracts|compiler/|lib/flightllm_isa.h|lib/checkpoint.h"
arrow emulator "$contracts|emulator/|lib/flightllm_isa.h"
arrow tools "$contracts|tools/|lib/flightllm.h|lib/flightllm_isa.h|lib/checkpoint.h"
arrow tests "$contracts|tests/|lib/|emulator/|compiler/|tools/"

# One file of lib knows the card, and the contracts know nothing but linux/types.h.
n=$((n + 1))
wrong=$(grep -ln 'emulator/card.h' lib/*.c lib/*.h 2>/dev/null | grep -v '^lib/soft')
[ -z "$wrong" ] && echo "ok $n - only lib/soft includes the card" ||
	{ bad=1; echo "not ok $n - only lib/soft includes the card: $wrong"; }
n=$((n + 1))
wrong=$(grep -rnE '^#include' kernel/include | grep -vE '<linux/types.h>|<flightllm/|"drm.h"|"regs.def"|"isa.def"')
[ -z "$wrong" ] && echo "ok $n - contracts include nothing but linux/types.h and each other" ||
	{ bad=1; echo "not ok $n - contracts include nothing but linux/types.h and each other"; sed 's/^/# /' <<<"$wrong"; }
echo "1..$n"
exit $bad
