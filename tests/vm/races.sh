#!/bin/bash
# SPDX-License-Identifier: MIT
# What happens to a card while hostile clients use it and others read what debugfs says: a function
# level reset, unbinding, killed clients, removal and rescan. RACE_ROUNDS (default 4) rounds, one after
# the other; after each the next client works, in the end nothing is left.
. "$(dirname "$0")/../vm.sh"

build=$(realpath "$b")
rounds=${RACE_ROUNDS:-4}
for program in fuzz submit; do
	[ -x "$build/tests/uapi/$program" ] ||
		skip_all "no $build/tests/uapi/$program: run tests/vm/uapi.sh"
done

cat >"$work/races" <<'EOF'
rounds=$1 tests=$2
name=$(basename "$(readlink /sys/class/accel/accel0/device)")
driver=/sys/bus/pci/drivers/flightllm
end_clients() { pkill -9 -x fuzz; }
i=0
while [ $i -lt $rounds ]; do
	FUZZ_SEED=$((i * 7 + 3)) FUZZ_CALLS=1000000 $tests/fuzz >/dev/null 2>&1 &
	(while :; do cat /sys/kernel/debug/accel/*/* >/dev/null 2>&1; done) &
	reader=$!
	sleep 1.$((i * 37 % 90 + 10))
	case $((i % 4)) in
	0) echo 1 >/sys/bus/pci/devices/$name/reset ;;
	1) echo $name >$driver/unbind; sleep 0.2; end_clients; echo $name >$driver/bind ;;
	2) end_clients ;;
	3) echo 1 >/sys/bus/pci/devices/$name/remove; sleep 0.2; end_clients
		echo 1 >/sys/bus/pci/rescan ;;
	esac
	sleep 0.3; end_clients; kill -9 $reader; wait; sleep 0.3
	$tests/submit >/tmp/submit 2>&1 && echo "round $i works"
	i=$((i + 1))
done
sed 's/^/state /' /sys/kernel/debug/accel/*/state
sed 's/^/left /' /sys/kernel/debug/accel/*/buffers
rmmod flightllm && echo unloaded
EOF

nothing_left()
{
	! grep '^left ' "$work/out" | grep -v ': 0 of '
}

vm_run --card u280 --append "slub_debug=FZPU page_poison=1" -- \
	sh "$work/races" "$rounds" "$build/tests/uapi" </dev/null
ok "the VM runs" [ "$vm_status" = 0 ] || vm_show
for ((i = 0; i < rounds; i++)); do
	ok "after event $i the next client works" grep -qx "round $i works" "$work/out" || vm_show
done
ok "no queue is left but the driver's" grep -qx 'state queues 1' "$work/out"
ok "no job is left" grep -qx 'state in_flight 0' "$work/out"
ok "no buffer is left" nothing_left
ok "the module can be unloaded" grep -qx unloaded "$work/out"
vm_log_is_clean "events and uses"
done_testing
