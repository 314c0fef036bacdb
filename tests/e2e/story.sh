#!/bin/bash
# SPDX-License-Identifier: MIT
# fables-3m through compiler, library and the card in the process, against the reference. WEIGHTS: w8 or w4.
. "$(dirname "$0")/../tap.sh"
"$b/flightllm-cc" tests/data/fables-3m -o "$work/fables.flm" --weights "${WEIGHTS:-w8}" --no-progress >/dev/null || exit 1
FLIGHTLLM_CARD_LIBRARY=$b/libflightllm-card.so "$b/tests/e2e/story" "$work/fables.flm" emulate
