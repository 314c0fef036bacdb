#!/bin/bash
# SPDX-License-Identifier: MIT
# Killing the client, the VM and the emulator at random moments: nothing leaks, no kernel complains, the next
# client works. ROUNDS of each (3; `make soak` takes 50). SEED makes the moments.
. "$(dirname "$0")/../vm.sh"

rounds=${ROUNDS:-3}
RANDOM=${SEED:-7}
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
"$b/flightllm-cc" tests/data/fables-3m -o "$work/fables.flm" --no-progress >/dev/null || exit 1

moment() { echo "$((RANDOM % 2)).$((RANDOM % 900 + 100))"; }

# ---- The client, in one VM ----

moments=$(for _ in $(seq "$rounds"); do moment; done)
cat >"$work/clients" <<END
free() { $b/flightllm info --json | grep -o '"free_bytes": [0-9]*' | tr '\n' ' '; }
[ -e /sys/kernel/debug/accel ] || mount -t debugfs none /sys/kernel/debug
# Contexts, queues, jobs, bytes shared with the card; and each buffer.
held() { cat /sys/kernel/debug/accel/*/{state,buffers}; }
# KiB in the kernel's own structures: what is shared with the card is counted above, to the byte.
slab() { sync; echo 3 >/proc/sys/vm/drop_caches; awk '/SUnreclaim/ { print \$2 }' /proc/meminfo; }
kill_one() {
	$b/flightllm bench $work/fables.flm -p 200 -n 200 -r 100 >/dev/null 2>&1 &
	pid=\$!
	sleep \$1
	kill -9 \$pid && echo \$2
	wait \$pid 2>/dev/null
}
# The first one fills caches that stay.
kill_one 1 first
sleep 5
before=\$(free) objects=\$(held) kib=\$(slab)
for m in $(echo $moments); do
	kill_one \$m killed
done
for i in \$(seq 100); do
	[ "\$(free)\$(held)" != "\$before\$objects" ] || break
	sleep 0.1
done
[ "\$(free)" = "\$before" ] && echo "memory is free"
[ "\$(held)" = "\$objects" ] && echo "objects are gone"
held | sed 's/^/held /'
more=\$((\$(slab) - kib))
echo "the kernel holds \$more KiB more"
[ \$more -lt 2048 ] && echo "the kernel's memory is there"
$b/flightllm run $work/fables.flm -q -n 20 --temp 0 -p "Once upon a time"
rmmod flightllm && echo "the module unloads"
END
want=$("$b/flightllm" run "$work/fables.flm" --emulate -q -n 20 --temp 0 -p "Once upon a time")
vm_run -- bash "$work/clients" </dev/null
ok "clients are killed at their work" [ "$(grep -c killed "$work/out")" = "$rounds" ] || vm_show
ok "card memory is free as before" grep -qx "memory is free" "$work/out" || vm_show
ok "no buffer, context, queue or job is left, nor memory shared with the card" \
	grep -qx "objects are gone" "$work/out" || vm_show
ok "and the debugfs that says so tells of contexts" grep -qE '^held contexts [0-9]+$' "$work/out"
ok "the kernel's memory is there ($(grep -o '[-0-9]* KiB more' "$work/out"))" \
	grep -qx "the kernel's memory is there" "$work/out" || vm_show
ok "the next client works" grep -qF "$want" "$work/out"
ok "the module unloads" grep -qx "the module unloads" "$work/out"
vm_log_is_clean "$rounds clients killed"

# ---- The VM ----

processes() { pgrep -f "$TMPDIR/flightllm-vm" | wc -l; }

# start: a VM whose client never ends, and has the card: one that came later would find none; $pid.
start() {
	"$vm" --timeout 120 --serial-log "$work/log" -- bash -c "
		$b/flightllm bench $work/fables.flm -p 200 -n 200 -r 100 >/dev/null &
		until grep -q '^queues [2-9]' /sys/kernel/debug/accel/*/state; do sleep 0.05; done
		echo up; wait \$!
		echo client \$?" >"$work/out" 2>"$work/err" </dev/null &
	pid=$!
	for _ in $(seq 900); do
		grep -q up "$work/out" && return 0
		sleep 0.1
	done
	vm_show
	return 1
}

gone() {
	for _ in $(seq 300); do
		[ "$(processes)" = 0 ] && return 0
		sleep 0.1
	done
	pgrep -af "$TMPDIR/flightllm-vm" | sed 's/^/# /'
	return 1
}

good=0
for _ in $(seq "$rounds"); do
	start || continue
	sleep "$(moment)"
	pkill -9 -f "qemu-system.*$TMPDIR/flightllm-vm"
	wait "$pid" 2>/dev/null
	gone && good=$((good + 1))
done
ok "killed VMs leave no process ($good of $rounds)" [ "$good" = "$rounds" ]
# Guest and card memory are memfds: they went with the processes. Files would stay.
ok "and no file" [ -z "$(find "$TMPDIR" -mindepth 1)" ]

# ---- The emulator ----

good=0 told=0 heard=0
: >"$work/missed"
for _ in $(seq "$rounds"); do
	start || continue
	sleep "$(moment)"
	pkill -9 -f "flightllm-emu.*$TMPDIR/flightllm-vm"
	# The client must hear of it, and the VM go on to its end.
	wait "$pid" 2>/dev/null
	# QEMU 11.1 itself asserts when the emulator dies during a register access; then nobody is left to tell.
	if grep -q '^client 7$' "$work/out"; then
		told=$((told + 1)) heard=1
	elif grep -q 'the VM ended before the command did' "$work/err"; then
		told=$((told + 1))
	else
		vm_show >>"$work/missed"
	fi
	gone && vm_search_log && good=$((good + 1))
done
ok "killed emulators leave no process and no kernel complaint ($good of $rounds)" [ "$good" = "$rounds" ] ||
	vm_show
ok "the client is told that the card is lost ($told of $rounds)" [ "$told$heard" = "${rounds}1" ] ||
	cat "$work/missed"
vm_run -- "$b/flightllm" run "$work/fables.flm" -q -n 20 --temp 0 -p "Once upon a time" </dev/null
ok "and the next VM works" [ "$(cat "$work/out")" = "$want" ]
done_testing
