# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by the tests that boot the VM: a boot whose kernel log is looked at, and tap.sh.
#
#	. "$(dirname "$0")/../vm.sh"
#	vm_run --card tiny -- true
#	ok "it boots" [ "$vm_status" = 0 ]
#	vm_log_is_clean "it boots"
#	done_testing

. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"
vm=$b/flightllm-vm

# What a kernel says when it has been wronged.
vm_trouble='WARNING:|BUG:|Oops|general protection|Call Trace|possible recursive locking|circular locking|INFO: task .* blocked|rcu.*stall|refcount_t|UBSAN|KASAN|use-after-free|Kernel panic'

# vm_run OPTION... [--] COMMAND...: leaves vm_status, $work/out, $work/err and the kernel's log in
# $work/log. Input is this function's.
vm_run()
{
	"$vm" --timeout 300 --serial-log "$work/log" "$@" >"$work/out" 2>"$work/err"
	vm_status=$?
}

# The lines of the log that no kernel should write; none is success.
vm_log_is_clean()
{
	ok "the kernel has nothing to complain about: $1" vm_search_log
}

vm_search_log()
{
	! grep -E "$vm_trouble" "$work/log"
}

# vm_claims PLACE: claims that a TAP program made in the VM become ours, renumbered; its comments
# stay comments. Its plan, the last thing that it says, must name as many as there are.
vm_claims()
{
	adopt "$1: " "" <"$work/out"
	[ "$adopted" -gt 0 ] || adopted="any number"
	ok "$1: the program ends in order" grep -qx "1\.\.$adopted" "$work/out" || vm_show
}

# What went wrong, into the test's diagnostics.
vm_show()
{
	sed 's/^/# /' "$work/err" "$work/out" | tail -n 20
	tail -n 20 "$work/log" | sed 's/^/# log: /'
}
