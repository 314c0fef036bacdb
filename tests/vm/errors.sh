#!/bin/bash
# SPDX-License-Identifier: MIT
# What goes wrong between program, driver and card: no permission, a full HBM, versions that do not fit each other.
# Each ends with its exit status and one line on stderr that names the thing and the remedy.
. "$(dirname "$0")/../vm.sh"

b=$(realpath "$b")
flags="-std=gnu11 -D_GNU_SOURCE -pthread $(pkg-config --cflags libdrm libpci jansson)"
"$b/flightllm-cc" tests/data/fables-3m -o "$work/fables.flm" --no-progress >/dev/null || exit 1
"$b/flightllm-cc" tests/data/fables-3m --card tiny -o "$work/tiny.flm" --no-progress >/dev/null || exit 1
printf '\x09' | cat <(head -c 8 "$work/fables.flm") - <(tail -c +10 "$work/fables.flm") >"$work/file9.flm"
printf '\x09' | cat <(head -c 12 "$work/fables.flm") - <(tail -c +14 "$work/fables.flm") >"$work/isa9.flm"

# other FILE FACT WITH: an include folder whose copy of a contract says something else.
other()
{
	rm -rf "${work:?}/include"
	mkdir -p "$work/include/drm" "$work/include/flightllm"
	sed "s/$2/$3/" "kernel/include/$1" >"$work/include/$1"
	! cmp -s "kernel/include/$1" "$work/include/$1"
}

# A card that tells another version: the emulator of the build but for its registers. Leaves $work/bin.
other_card()
{
	rm -rf "${work:?}/bin"
	mkdir "$work/bin"
	ln -s "$(realpath "$vm")" "$work/bin/flightllm-vm"
	ln -s "$b/flightllm-vm-init" "$work/bin"
	# shellcheck disable=SC2086 # words
	gcc $flags -I"$work/include" -Ikernel/include -I. -c emulator/device/regs.c -o "$work/regs.o" &&
		gcc -pthread -o "$work/bin/flightllm-emu" "$work/regs.o" "$b"/obj/emulator/main.o "$b"/obj/emulator/link/*.o \
			"$b/libcard.a" -lm
}

# A tool that was built for a driver of another version: $work/tool.
other_tool()
{
	# shellcheck disable=SC2086,SC2046 # words
	gcc $flags -I"$work/include" -Ikernel/include -I. -c lib/drm.c -o "$work/drm.o" &&
		gcc -pthread -o "$work/tool" "$b/obj/tools/main.o" "$work/drm.o" "$b/libtools.a" \
			"$b/libflightllm.a" "$b/libcheckpoint.a" $(pkg-config --libs libdrm libpci jansson) -ldl -lm
}

# Claims about what `refused` in the guest has written to $work/out: "NAME status N", then stderr's lines.
refused_with()
{
	local name=$1 status=$2 words=$3

	sed -n "s/^$name //p" "$work/out" >"$work/said"
	ok "$name: exits with $status" grep -qx "status $status" "$work/said" || vm_show
	ok "$name: one line says why" [ "$(grep -c '^err ' "$work/said")" = 1 ] || vm_show
	ok "$name: and what to do: $words" grep -qF -- "$words" "$work/said" || vm_show
}

cat >"$work/refused" <<'EOF'
refused() {
	local name=$1
	shift
	"$@" 2>/tmp/err >/tmp/out </dev/null
	echo "$name status $?"
	sed "s/^/$name err /" /tmp/err
	[ ! -s /tmp/out ] || echo "$name err on stdout: $(head -c 100 /tmp/out)"
}
EOF

# ---- Permission, files and tools of other versions ----

ok "a tool for another driver builds" other drm/flightllm_accel.h '\(define DRM_FLIGHTLLM_MAJOR\)	1' '\1	9' &&
	ok "from the sources and a header that differs" other_tool
cat >"$work/guest" <<END
. $work/refused
# Anybody may read these; the build's own folders need not let everybody in.
mkdir -m 755 /tmp/open && install -m755 $b/flightllm /tmp/open && install -m644 $work/fables.flm /tmp/open
as() { setpriv --reuid=65534 --regid=65534 --groups=\$1 "\${@:2}"; }
cd /tmp/open
chown root:root /dev/accel/accel0
chmod 600 /dev/accel/accel0
refused "root's card" as 65534 ./flightllm run fables.flm -n 5
refused "root's card, info" as 65534 ./flightllm info
refused "root's card, bench" as 65534 ./flightllm bench fables.flm
chgrp 7 /dev/accel/accel0
chmod 660 /dev/accel/accel0
refused "a group's card" as 65534 ./flightllm run fables.flm -n 5
as 7 ./flightllm run fables.flm -q -n 5 --temp 0 >/tmp/member && echo "a member runs it"
refused "a newer file" $b/flightllm run $work/file9.flm
refused "a file for another instruction set" $b/flightllm run $work/isa9.flm
refused "a file for another card" $b/flightllm run $work/tiny.flm
refused "an older driver" $work/tool run $work/fables.flm
END
vm_run -- bash "$work/guest" </dev/null
ok "the VM runs" [ "$vm_status" = 0 ] || vm_show
for what in "root's card" "root's card, info" "root's card, bench"; do
	refused_with "$what" 4 "/dev/accel/accel0: no permission, it is root's alone; give it to a group that you are in"
done
refused_with "a group's card" 4 "usermod -aG $(getent group 7 | cut -d: -f1) "
ok "a member of the group runs it" grep -qx "a member runs it" "$work/out"
refused_with "a newer file" 8 "file version 9.0, this library reads 1; compile the model with"
refused_with "a file for another instruction set" 8 "instruction set 9.1, this library knows"
refused_with "a file for another card" 8 "for card tiny (2 cores), this is u280 (3 cores); compile it with --card u280"
refused_with "an older driver" 8 "the driver speaks interface 1.0, this library 9.0; install driver and library of one"
vm_log_is_clean "programs that it refuses"

# ---- A full HBM ----

cat >"$work/guest" <<END
. $work/refused
$b/tests/e2e/full 5 $b/flightllm run $work/tiny.flm -q -n 5 2>/tmp/full
sed "s/^/a full HBM err /" /tmp/full
refused "the HBM of one who left" $b/flightllm run $work/tiny.flm -q -n 5
END
vm_run --card tiny -- bash "$work/guest" </dev/null
vm_claims "a full HBM"
ok "a full HBM: one line says why" [ "$(grep -c '^a full HBM err ' "$work/out")" = 1 ] || vm_show
ok "a full HBM: and what to do" grep -q \
	"^a full HBM err flightllm run: HBM of core 0 is full: .* MB wanted, 0.0 of 33.6 MB free, 0.0 in one piece; end other programs" \
	"$work/out" || vm_show
ok "when who held it has left the same runs" grep -qx "the HBM of one who left status 0" "$work/out" || vm_show
vm_log_is_clean "a full HBM"

# ---- Cards of other versions ----

cat >"$work/guest" <<END
. $work/refused
refused "another card" $b/flightllm run $work/fables.flm
END
ok "a card with another register map builds" other flightllm/regs.def '^\(REG(VERSION,.*\)0x00010000' '\10x00020003' &&
	ok "from the emulator and rows that differ" other_card
vm=$work/bin/flightllm-vm vm_run -- bash "$work/guest" </dev/null
refused_with "another card" 3 "card without driver: 0000:01:00.0; load it"
ok "the driver names both versions and the remedy" \
	grep -q "register map is 2.3, driver knows 1.0: update the driver" "$work/log" || vm_show
vm_log_is_clean "a card with another register map"
ok "a card with another instruction set builds" other flightllm/regs.def '^\(REG(ISA,.*\)0x000[01]000[01]' '\10x00090001' &&
	ok "from the emulator and rows that differ" other_card
vm=$work/bin/flightllm-vm vm_run -- bash "$work/guest" </dev/null
refused_with "another card" 8 "has instruction set 9.1, this library knows"
vm_log_is_clean "a card with another instruction set"
done_testing
