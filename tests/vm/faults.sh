#!/bin/bash
# SPDX-License-Identifier: MIT
# Cards that break (flightllm-emu --faults): what tests/uapi/faults.c claims in the guest, a kernel that has
# nothing to complain about, with poison in what was freed, and nothing left behind. One boot for all that a
# card survives, one each for a function level reset, and for unbinding and pulling out.
. "$(dirname "$0")/../vm.sh"

program=$b/tests/uapi/faults
[ -x "$program" ] || skip_all "no $program: run tests/vm/uapi.sh"

# breaks WHAT LIST COMMANDS: a VM whose card has these faults, and COMMANDS after the program. The program's
# list may call a deaf queue by what happens meanwhile: "flr" or "unbind".
breaks()
{
	local list=$2

	list=${list//flr/deaf}
	FLIGHTLLM_FAULTS=$2 vm_run --card tiny --append "slub_debug=FZPU page_poison=1" \
		--emu-args "--faults ${list//unbind/deaf}" -- sh -c "$program; $3
		sed 's/^/state /' /sys/kernel/debug/accel/*/state
		sed 's/^/left /' /sys/kernel/debug/accel/*/buffers
		rmmod flightllm && echo unloaded" </dev/null
	vm_claims "$1"
	ok "$1: the module unloads" grep -qx unloaded "$work/out" || vm_show
	vm_log_is_clean "$1"
}

nothing_is_left()
{
	ok "$1: no job and no queue but the driver's is left" \
		[ "$(grep -cxE 'state (in_flight 0|queues 1)' "$work/out")" = 2 ] || vm_show
	ok "$1: no buffer is left" [ "$(grep -c '^left .*: 0 of ' "$work/out")" = 4 ] || vm_show
}

breaks "a card that breaks" lost-interrupt@2,late-interrupt@4,dma-error@6,bad-completion@9,hang@12,deaf@17,dead-heartbeat@22
nothing_is_left "a card that breaks"
breaks "a reset while a queue is deaf" flr@2
nothing_is_left "a reset while a queue is deaf"

cat >"$work/pulled" <<'EOS'
card=$(basename "$(dirname "$(grep -lx 0xf117 /sys/bus/pci/devices/*/device)")")
cd /sys/bus/pci/drivers/flightllm
echo "$card" >unbind && echo "driver left"
echo "$card" >bind || echo "bind refused"
EOS
breaks "a card that is pulled out" unbind@2,removal@5 "sh $work/pulled"
ok "the driver leaves a card that was pulled out" grep -qx "driver left" "$work/out"
ok "and does not bind to it" grep -qx "bind refused" "$work/out" || vm_show
ok "for it is no card" grep -q 'no FlightLLM card: magic 0xffffffff' "$work/log" || vm_show
done_testing
