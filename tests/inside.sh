#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs in the VM: TAP programs one after the other, as one stream of claims.
#
#	bash tests/inside.sh SECONDS PROGRAM...
#
# Each program may take so many seconds, and after each the kernel's log must be free of complaints.
# A program that is skipped, dies or runs out of time is a claim too.
. "$(dirname "$0")/vm.sh"

seconds=$1
shift
dmesg -C

in_time()
{
	[ "$1" = 0 ] || { [ "$1" = 1 ] && [ "$2" -gt "$3" ]; }
}

kernel_is_content()
{
	dmesg -c >"$work/dmesg"
	! grep -E "$vm_trouble" "$work/dmesg"
}

for program; do
	name=${program##*/}
	failed_before=$tap_failed
	timeout -k 10 "$seconds" "$program" >"$work/program" 2>&1
	status=$?
	adopt "" " ($name)" <"$work/program"
	ok "$name ends in order (status $status)" in_time $status "$tap_failed" "$failed_before"
	ok "$name leaves the kernel content" kernel_is_content
done
done_testing
