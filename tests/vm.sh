# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by the tests that boot the VM: claims in TAP, and a boot whose kernel log is looked at.
#
#	. tests/vm.sh
#	vm_run --card tiny -- true
#	ok "it boots" [ "$vm_status" = 0 ]
#	vm_log_is_clean "it boots"
#	done_testing

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
vm=${B:-build}/flightllm-vm
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
tap_count=0 tap_failed=0

# What a kernel says when it has been wronged.
vm_trouble='WARNING:|BUG:|Oops|general protection|Call Trace|possible recursive locking|circular locking|INFO: task .* blocked|rcu.*stall|refcount_t|UBSAN|KASAN|use-after-free|Kernel panic'

# ok TEXT COMMAND...
ok()
{
	local text=$1

	shift
	tap_count=$((tap_count + 1))
	if "$@" >&2; then
		echo "ok $tap_count - $text"
	else
		echo "not ok $tap_count - $text"
		tap_failed=$((tap_failed + 1))
		return 1
	fi
}

done_testing()
{
	echo "1..$tap_count"
	[ "$tap_failed" = 0 ]
	exit
}

skip_all()
{
	echo "1..0 # SKIP $*"
	exit 0
}

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
	local line count

	count=$(grep -cE '^(not )?ok ' "$work/out")
	while IFS= read -r line; do
		case $line in
		"ok "*) ok "$1: ${line#*- }" true ;;
		"not ok "*) ok "$1: ${line#*- }" false ;;
		"#"*) echo "$line" ;;
		esac
	done <"$work/out"
	[ "$count" -gt 0 ] || count="any number"
	ok "$1: the program ends in order" grep -qx "1\.\.$count" "$work/out" || vm_show
}

# What went wrong, into the test's diagnostics.
vm_show()
{
	sed 's/^/# /' "$work/err" "$work/out" | tail -n 20
	tail -n 20 "$work/log" | sed 's/^/# log: /'
}
