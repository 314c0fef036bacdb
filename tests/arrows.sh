#!/bin/bash
# SPDX-License-Identifier: MIT
# Who may include whom. Prints TAP; an include that follows no arrow fails and is named.
. "$(dirname "$0")/tap.sh"

# arrow FOLDER PATTERN: project includes of FOLDER's files must match PATTERN.
arrow() {
	grep -rnE '^#include ["<](lib/|emulator/|compiler/|tools/|tests/|kernel/|flightllm/|drm/flightllm|\.\./)' \
		--include='*.[ch]' --include='*.def' "$1" 2>/dev/null | grep -vE "#include [\"<]($2)" |
		clean "$1 includes only what it may"
}

contracts='flightllm/|drm/flightllm_accel.h'
arrow kernel "$contracts"
arrow kernel/include "flightllm/"
arrow lib "$contracts|lib/|emulator/card.h"
arrow compiler "$contracts|compiler/|lib/flightllm_isa.h|lib/crc32c.h|lib/checkpoint/checkpoint.h"
arrow emulator "$contracts|emulator/|lib/flightllm_isa.h|lib/crc32c.h"
# The rooms of the card: a link knows the card alone, execution knows no ring.
arrow emulator/link "emulator/card.h|emulator/link/|flightllm/regs.h"
arrow emulator/device "$contracts|emulator/(device|core|time)/|emulator/(card.h|mem.h|profile.def)|lib/crc32c.h"
arrow emulator/core "flightllm/|emulator/core/|emulator/mem.h"
arrow emulator/time "emulator/time/"
arrow tools "$contracts|tools/|lib/flightllm.h|lib/flightllm_isa.h|lib/checkpoint/checkpoint.h"
arrow tests "$contracts|tests/|lib/|emulator/|compiler/|tools/"

# One file of lib knows the card, and the contracts know nothing but linux/types.h.
grep -rln 'emulator/card.h' lib | grep -v '^lib/soft/' |
	clean "only lib/soft includes the card"
grep -rnE '^#include' kernel/include | grep -vE '<linux/types.h>|<flightllm/|"drm.h"|"regs.def"|"isa.def"' |
	clean "contracts include nothing but linux/types.h and each other"
done_testing
