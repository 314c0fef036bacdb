#!/bin/bash
# SPDX-License-Identifier: MIT
# flightllm-vm itself: what goes in comes out, and nothing stays behind.
. "$(dirname "$0")/../vm.sh"

same() { [ "$1" = "$2" ] || { echo "\"$1\" is not \"$2\""; return 1; }; }

# Processes and folders of ours, by the name of the run's folder.
leftovers()
{
	find "$TMPDIR" -mindepth 1 -maxdepth 1 -name 'flightllm-vm.*'
	for p in /proc/[0-9]*; do
		{ tr '\0' ' ' <"$p/cmdline"; } 2>/dev/null | grep -F "$TMPDIR/flightllm-vm."
	done
}

log_is_kept() { [ "$vm_status" = 0 ] && [ -s "$work/kept/log" ]; }

# Leftovers go within ten seconds.
nothing_is_left()
{
	for _ in $(seq 100); do
		[ -n "$(leftovers)" ] || return 0
		sleep 0.1
	done
	leftovers
	return 1
}

mkdir "$work/tmp"
export TMPDIR=$work/tmp

vm_run --no-card --no-module --json -- sh -c 'echo out; echo err >&2; pwd; exit 7' </dev/null
ok "the exit status is the command's" same "$vm_status" 7 || vm_show
ok "its output is stdout, in the caller's folder" same "$(cat "$work/out")" "out
$PWD"
ok "its errors are stderr" same "$(head -n 1 "$work/err")" err
ok "--json tells status and seconds" grep -q '^{"status": 7, "accelerator": "[a-z]*", "boot_seconds": [0-9.]*, ' "$work/err"
echo "# $(tail -n 1 "$work/err")"
vm_log_is_clean "a boot without a card"

head -c 3000000 /dev/urandom >"$work/random"
vm_run --no-card --no-module -- sh -c 'cat; kill -9 $$' <"$work/random"
ok "3 MB pass through unharmed" cmp "$work/random" "$work/out"
ok "death by a signal is 128 + its number" same "$vm_status" 137

"$vm" --no-card --no-module --timeout 100 -- cat "$work/random" </dev/null 2>"$work/err" |
	{ sleep 6; cat >"$work/out"; }
ok "a slow reader loses nothing" cmp "$work/random" "$work/out"

vm_run --no-card --no-module -- sh -c "touch /usr/x || echo kept; echo y >'$work/x' && cat '$work/x'" </dev/null
ok "files are read-only, below /tmp they are the VM's own" same "$(cat "$work/out")" "kept
y"
ok "nothing reached the host" [ ! -e "$work/x" ]

vm_run --no-card --no-module --run-dir "$work/kept" --serial-log "$work/kept/log" -- true </dev/null
ok "--run-dir keeps a folder, in which the log may lie" log_is_kept || vm_show
rm -rf "$work/kept"

vm_run --no-card --no-module -- nosuchcommand </dev/null
ok "an unknown command is 127" same "$vm_status" 127
vm_run --no-card --no-module --timeout 8 -- sleep 100 </dev/null
ok "--timeout ends it with status 6" same "$vm_status" 6
vm_run --nosuchoption -- true </dev/null
ok "a wrong option is status 2" same "$vm_status" 2
ok "so far nothing is left behind" nothing_is_left

"$vm" --no-card --no-module -- sleep 100 </dev/null >/dev/null 2>&1 &
sleep 4
kill -KILL $!
wait $! 2>/dev/null
ok "nor after SIGKILL" nothing_is_left
"$vm" --no-card --no-module -- sleep 100 </dev/null >/dev/null 2>&1 &
sleep 4
kill -TERM $!
wait $!
ok "SIGTERM is status 143" same $? 143
ok "and leaves nothing behind" nothing_is_left
done_testing
