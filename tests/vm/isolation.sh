#!/bin/bash
# SPDX-License-Identifier: MIT
# A hostile client beside a good one, through the driver (tests/e2e/isolation.c, in the guest). Then nothing is
# left of either, no reset of the card was needed, and the next client works. SEED and ROUNDS are passed on.
. "$(dirname "$0")/../vm.sh"

"$b/flightllm-cc" tests/data/fables-3m -o "$work/fables.flm" --no-progress >/dev/null || exit 1
want=$("$b/flightllm" run "$work/fables.flm" --emulate -q -n 20 --temp 0 -p "Once upon a time")
cat >"$work/clients" <<END
objects() { cat /sys/kernel/debug/accel/*/{queues,buffers} | wc -l; }
before=\$(objects)
timeout -k 5 250 $b/tests/e2e/isolation $work/fables.flm
status=\$?
[ "\$(objects)" = "\$before" ] && echo "left nothing"
sed 's/^/state /' /sys/kernel/debug/accel/*/state
echo "next \$($b/flightllm run $work/fables.flm -q -n 20 --temp 0 -p "Once upon a time" | base64 -w 0)"
rmmod flightllm && echo unloaded
exit \$status
END
vm_run --env SEED="${SEED:-1}" --env ROUNDS="${ROUNDS:-12}" -- bash "$work/clients" </dev/null
vm_claims "in the VM"
ok "no buffer and no queue is left" grep -qx "left nothing" "$work/out" || vm_show
ok "no queue is left but the driver's" grep -qx "state queues 1" "$work/out"
ok "no job is left" grep -qx "state in_flight 0" "$work/out"
ok "the card was never reset" grep -qx "state card_resets 0" "$work/out"
ok "the next client works" grep -qx "next $(base64 -w 0 <<<"$want")" "$work/out"
ok "the module unloads" grep -qx unloaded "$work/out"
vm_log_is_clean "a hostile client"
done_testing
