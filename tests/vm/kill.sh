#!/bin/bash
# SPDX-License-Identifier: MIT
# Clients, VMs and emulators are killed while a model speaks, KILLS of each (default 3), at random
# moments: whoever is left ends in order, nothing is lost, and the next client works.
. "$(dirname "$0")/../vm.sh"

kills=${KILLS:-3}
build=$PWD/${B:-build}
[[ ${B:-build} != /* ]] || build=$B
model=$work/model.flm
words=(-n 200 --seed 7 -p "Once upon a time")

"$build/flightllm-cc" tests/data/fables-3m -o "$model" --card u280 --weights w8 >"$work/cc" 2>&1 ||
	{ sed 's/^/# /' "$work/cc"; ok "the model compiles" false; done_testing; }
"$build/flightllm" run "$model" --emulate "${words[@]}" >"$work/story" 2>/dev/null

random_tenths() { echo "$((RANDOM % 2)).$((RANDOM % 10))"; }

# Waits until a file has something in it, at most 60 seconds.
wait_for_output()
{
	for _ in $(seq 600); do
		[ ! -s "$1" ] || return 0
		sleep 0.1
	done
	return 1
}

is_between() { [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }

# ---- Clients ----

cat >"$work/clients" <<'EOF'
build=$1 model=$2 kills=$3
shift 3
state=$(echo /sys/kernel/debug/accel/*:*)
look() { cat "$state/buffers"; grep -E 'queues|in_flight' "$state/state"; }
"$build/flightllm" run "$model" "$@" >/dev/null 2>&1
look >/tmp/before
for i in $(seq "$kills"); do
	"$build/flightllm" run "$model" -n 400 -p Once >/dev/null 2>&1 &
	sleep 0.$((RANDOM % 10))
	kill -KILL $!
	wait $! 2>/dev/null
done
for i in $(seq 100); do
	look >/tmp/after
	cmp -s /tmp/before /tmp/after && break
	sleep 0.1
done
diff /tmp/before /tmp/after >&2 && echo "nothing lost"
"$build/flightllm" run "$model" "$@" 2>/dev/null
EOF
vm_run --no-stdin -- bash "$work/clients" "$build" "$model" "$kills" "${words[@]}"
ok "$kills killed clients leave no buffer, queue or job behind" \
	grep -qx "nothing lost" "$work/out" || vm_show
sed -i '/^nothing lost$/d' "$work/out"
ok "and the next one speaks as ever" cmp "$work/story" "$work/out" || vm_show
vm_log_is_clean "killed clients"

# ---- VMs and emulators ----

cat >"$work/endless" <<'EOF'
while "$1/flightllm" run "$2" -n 400 -p Once; do :; done
exit 9
EOF

# victim NAME: kills the process of that name in a running VM; leaves status and emulator's number.
victim()
{
	local run=$work/run.$1.$RANDOM emulator

	: >"$work/out"
	rm -f "$work/log"
	"$vm" --run-dir "$run" --timeout 120 --serial-log "$work/log" --no-stdin -- \
		bash "$work/endless" "$build" "$model" >"$work/out" 2>"$work/err" &
	wait_for_output "$work/out" || echo "# it does not speak"
	sleep "$(random_tenths)"
	emulator=$(cat "$run/emu0.pid")
	kill -KILL "$(cat "$run/$1.pid")"
	wait $!
	status=$?
	survivor=$emulator
}

for i in $(seq "$kills"); do
	victim qemu
	ok "killed VM $i: status 1, and a line that says so" \
		grep -q "the VM ended before the command did" "$work/err" || vm_show
	ok "its emulator has ended in order" is_gone "$survivor"
	ok "without a complaint" [ "$(grep -c 'flightllm-emu' "$work/err")" = 0 ] || vm_show
done
# QEMU itself aborts when a register access was under way: then the VM is gone too, status 1.
for i in $(seq "$kills"); do
	victim emu0
	ok "killed emulator $i: the client ends with an error (status $status)" \
		is_between "$status" 1 9 || vm_show
	ok "in time" [ "$status" != 6 ]
	vm_log_is_clean "a card that is gone"
done
vm_run --no-stdin -- "$build/flightllm" run "$model" "${words[@]}"
ok "the next card speaks as ever" cmp "$work/story" "$work/out" || vm_show
done_testing
