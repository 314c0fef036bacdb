#!/bin/bash
# SPDX-License-Identifier: MIT
# The driver compiles without a warning against the kernels that Debian has: the 6.12 of
# bookworm-security and bookworm-backports, and the newest of trixie-backports, each with the compiler
# of its release.
. "$(dirname "$0")/../vm.sh"

# build SUITE: in the suite's root, as ourselves, with /dev and /proc bound in a mount namespace of our own,
# so that nothing stays mounted. Where nobody may make one (in a chroot) they are unmounted by hand.
build()
{
	local root enter=() own='' as=0:0

	root=$(tools/setup.sh --build-root "$1") || return 1
	if [ "$(id -u)" != 0 ] && unshare -r -m true 2>/dev/null; then
		enter=(unshare -r -m) own=yes
	else
		[ "$(id -u)" = 0 ] || enter=(sudo -n) as=$(id -u):$(id -g)
		! "${enter[@]}" unshare -m true 2>/dev/null || { enter+=(unshare -m) own=yes; }
	fi
	rm -rf "$root/module"
	mkdir -p "$root/module" "$root/dev" "$root/proc"
	tar -C kernel --exclude-vcs-ignores -c . | tar -C "$root/module" -x
	"${enter[@]}" sh -c '
		bind=--rbind
		[ "$3" ] || bind=--bind
		mount $bind /dev "$1/dev" && mount $bind /proc "$1/proc" &&
			chroot --userspec="$2" "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
			sh -c "make -C /usr/src/linux-headers-*-amd64 M=/module W=1 modules"
		status=$?
		[ "$3" ] || umount "$1/proc" "$1/dev"
		exit $status' sh "$root" "$as" "$own" >"$work/build" 2>&1
}

is_quiet() { ! grep -iE 'warning|error' "$work/build"; }

for suite in bookworm-security bookworm-backports trixie-backports; do
	ok "it compiles for $suite" build $suite || sed 's/^/# /' "$work/build" | tail -n 20
	grep -m1 -o "linux-headers-[0-9][^/ ']*" "$work/build" | sed 's/^/# /'
	ok "without a warning, W=1" is_quiet
done
done_testing
