#!/bin/bash
# SPDX-License-Identifier: MIT
# fables-3m through compiler, library, ioctls, driver, PCIe and the emulated card, in stock QEMU: tokens and
# logits equal the reference, and the costs on the bus are counted (tests/e2e/story.c, in the guest).
. "$(dirname "$0")/../vm.sh"

ok "the model compiles" "$b/flightllm-cc" tests/data/fables-3m -o "$work/fables.flm" --no-progress

vm_run -- "$b/tests/e2e/story" "$work/fables.flm" </dev/null
vm_claims "in the VM"
vm_log_is_clean "400 tokens and more"

# The words themselves, streamed by the tool.
"$b/flightllm" run "$work/fables.flm" --emulate -q -n 100 --seed 7 -p "Once upon a time" >"$work/want"
vm_run -- "$b/flightllm" run "$work/fables.flm" -q -n 100 --seed 7 -p "Once upon a time" </dev/null
ok "the tool says the same in the VM and with --emulate" cmp "$work/want" "$work/out" || vm_show
ok "and it is a text" [ "$(wc -w <"$work/out")" -gt 40 ]
vm_run --no-card -- "$b/flightllm" run "$work/fables.flm" </dev/null
ok "without a card it exits with 3" [ "$vm_status" = 3 ] || vm_show
ok "and says what to do" grep -q -e '--emulate' "$work/err"
vm_run --card tiny -- "$b/flightllm" run "$work/fables.flm" </dev/null
ok "a model for another card exits with 8" [ "$vm_status" = 8 ] || vm_show
done_testing
