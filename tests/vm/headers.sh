#!/bin/bash
# SPDX-License-Identifier: MIT
# The driver compiles without a warning against the kernels that Debian has: the 6.12 of
# bookworm-security and bookworm-backports, and the newest of trixie-backports, each with the compiler
# of its release.
. "$(dirname "$0")/../vm.sh"

# build SUITE: in a mount namespace of our own, so that nothing stays mounted. A user who may not make
# one (in a chroot nobody may) asks sudo for it, and builds as the user all the same.
build()
{
	local root enter=(unshare -m) as

	root=$(tools/setup.sh --build-root "$1") || return 1
	as=$(id -u):$(id -g)
	if [ "${as%:*}" != 0 ]; then
		enter=(sudo -n unshare -m)
		if unshare -r -m true 2>/dev/null; then
			enter=(unshare -r -m) as=0:0
		fi
	fi
	rm -rf "$root/module"
	cp -r kernel "$root/module"
	"${enter[@]}" sh -c 'mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && exec chroot --userspec="$2" "$1" /usr/bin/env -i \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
		sh -c "make -C /usr/src/linux-headers-*-amd64 M=/module W=1 modules"' \
		sh "$root" "$as" >"$work/build" 2>&1
}

is_quiet() { ! grep -iE 'warning|error' "$work/build"; }

for suite in bookworm-security bookworm-backports trixie-backports; do
	ok "it compiles for $suite" build $suite || sed 's/^/# /' "$work/build" | tail -n 20
	grep -m1 -o "linux-headers-[0-9][^/ ']*" "$work/build" | sed 's/^/# /'
	ok "without a warning, W=1" is_quiet
done
done_testing
