#!/bin/bash
# SPDX-License-Identifier: MIT
# The module builds from the project's root, as the kernel builds modules that are not its own; what that
# leaves beside the sources and what `make module` leaves in build/module do not meet. Prints TAP.
. "$(dirname "$0")/tap.sh"
headers=$(tools/setup.sh --print-headers)
[ -e "$headers/Makefile" ] || skip_all "no kernel headers (tools/setup.sh)"
root=$work/root
mkdir "$root"
cp -r --parents Kbuild Makefile kernel tools/setup.sh .gitignore "$root" && make -s -C "$root" clean

# What lies in the project, but for build/, with the time of each.
files() { (cd "$root" && find . -name .git -prune -o -path ./build -prune -o -type f -printf '%P %T@\n' | sort); }
in_root() { env -u MAKEFLAGS make -s -C "$headers" M="$root" "$@"; }
module() { (cd "$root" && env -u B tools/setup.sh --module); }
unchanged() { diff <(echo "$1") <(files); }

sources=$(files)
ok "the module builds from the project's root" in_root
ok "as kernel/flightllm.ko" grep -q 'name=flightllm' "$root/kernel/flightllm.ko"
git -C "$root" init -q
ok "git ignores what that leaves" [ "$(git -C "$root" ls-files -co --exclude-standard | sort)" = \
	"$(cut -d ' ' -f 1 <<<"$sources" | sort)" ]
# An object with which nothing can be built, newer than all.
echo wrong >"$root/kernel/flightllm_drv.o"
built=$(files)
ok "make module builds beside it" module
ok "as build/flightllm.ko" grep -q 'name=flightllm' "$root/build/flightllm.ko"
ok "takes no object from there" grep -q ELF "$root/build/module/flightllm_drv.o"
ok "and touches none" unchanged "$built"
rm "$root/kernel/flightllm_drv.o"
ok "the module builds from the root again" in_root
in_root clean 2>&1 | clean "kbuild's own clean works"
ok "and leaves the sources as they were" unchanged "$sources"
done_testing
