#!/bin/bash
# SPDX-License-Identifier: MIT
# Who may include whom, and who may call whom. Prints TAP; an include that follows no arrow, and calls in a
# circle, are named. Needs `make user`, whose objects it reads.
. "$(dirname "$0")/tap.sh"

# arrow FOLDER PATTERN: project includes of FOLDER's files must match PATTERN.
arrow() {
	grep -rnE '^#include ["<](lib/|emulator/|compiler/|tools/|tests/|kernel/|flightllm/|drm/flightllm|\.\./)' \
		--include='*.[ch]' --include='*.def' "$1" 2>/dev/null | grep -vE "#include [\"<]($2)" |
		clean "$1 includes only what it may"
}

contracts='flightllm/|drm/flightllm_accel.h'
arrow kernel "$contracts"
arrow kernel/include "flightllm/"
arrow lib "$contracts|lib/|emulator/card.h"
arrow compiler "$contracts|compiler/|lib/flightllm_isa.h|lib/crc32c.h|lib/checkpoint/checkpoint.h"
arrow emulator "$contracts|emulator/|lib/flightllm_isa.h|lib/crc32c.h"
# The rooms of the card: a link knows the card alone, execution knows no ring.
arrow emulator/link "emulator/card.h|emulator/link/|flightllm/regs.h"
arrow emulator/device "$contracts|emulator/(device|core|time)/|emulator/(card.h|mem.h|profile.def)|lib/crc32c.h"
arrow emulator/core "flightllm/|emulator/core/|emulator/mem.h"
arrow emulator/time "emulator/time/"
arrow tools "$contracts|tools/|lib/flightllm.h|lib/flightllm_isa.h|lib/checkpoint/checkpoint.h"
arrow tests "$contracts|tests/|lib/|emulator/|compiler/|tools/"

# One file of lib knows the card, and the contracts know nothing but linux/types.h.
grep -rln 'emulator/card.h' lib | grep -v '^lib/soft/' |
	clean "only lib/soft includes the card"
grep -rnE '^#include' kernel/include | grep -vE '<linux/types.h>|<flightllm/|"drm.h"|"regs.def"|"isa.def"' |
	clean "contracts include nothing but linux/types.h and each other"

# --- calls inside a folder go one way ---

# circles ROOT SOURCE...: of their objects in ROOT, for each circle the shortest way round, an edge a line:
# 'A needs S of B', where A refers to the symbol S that B defines. With by=room a folder inside a folder
# counts as one.
circles() {
	local root=$1 objects

	shift
	objects=("${@/#/$root/}")
	nm -A "${objects[@]/%.c/.o}" | awk -v root="$root/" -v by="${by:-file}" '
		{ file = substr($1, length(root) + 1); sub(/\.o:.*/, ".c", file) }
		by == "room" { if (split(file, part, "/") > 2) file = part[1] "/" part[2] }
		!(file in known) { known[file] = 1; order[++files] = file }
		$(NF - 1) == "U" { needs[++count] = file SUBSEP $NF }
		$(NF - 1) ~ /^[A-TV-Z]$/ { owner[$NF] = file }
		END {
			for (i = 1; i <= count; i++) {
				split(needs[i], need, SUBSEP)
				a = need[1]; z = owner[need[2]]
				if (z != "" && a != z && !((a, z) in symbol)) {
					symbol[a, z] = need[2]
					after[a] = after[a] SUBSEP z
				}
			}
			for (i = 1; i <= files; i++)
				if (!(order[i] in told))
					go_round(order[i])
		}
		# Breadth first, from a file until it is met again; then the way back.
		function go_round(start,   queue, head, tail, before, list, n, j, at, way) {
			queue[tail = 1] = start
			for (head = 1; head <= tail && !(start in before); head++) {
				n = split(substr(after[queue[head]], 2), list, SUBSEP)
				for (j = 1; j <= n; j++)
					if (!(list[j] in before)) {
						before[list[j]] = queue[head]
						queue[++tail] = list[j]
					}
			}
			at = start
			while (start in before) {
				told[at] = 1
				way = before[at] " needs " symbol[before[at], at] " of " at "\n" way
				at = before[at]
				if (at == start)
					break
			}
			printf "%s", way
		}'
}

# First that a circle is found: of three, with a tail that leads into it and one that leads out.
mkdir "$work/obj"
while read -r name code; do
	gcc -c -o "$work/obj/$name.o" -x c - <<<"$code"
done <<'END'
into int a(void); int into(void) { return a(); }
a int b(void), out(void); int a(void) { return b() + out(); }
b extern int c; int b(void) { return c; }
c int a(void); int c; int d(void) { return a(); }
out int out(void) { return 0; }
END
circles "$work/obj" into.c a.c b.c c.c out.c >"$work/circle"
ok "a circle is found, with both files and the symbol of each edge" diff "$work/circle" - <<'END'
a.c needs b of b.c
b.c needs c of c.c
c.c needs a of a.c
END
ok "what is none is not" diff /dev/null <(circles "$work/obj" into.c a.c b.c out.c)
mkdir -p "$work"/obj/in/{x,y}
cp "$work/obj/a.o" "$work/obj/c.o" "$work/obj/in/x" && cp "$work/obj/b.o" "$work/obj/in/y"
by=room circles "$work/obj" in/x/a.c in/y/b.c in/x/c.c >"$work/circle"
ok "so is one of rooms" diff "$work/circle" - <<'END'
in/x needs b of in/y
in/y needs c of in/x
END

for folder in compiler lib emulator; do
	mapfile -t sources < <(find "$folder" -name '*.c' | sort)
	circles "$b/obj" "${sources[@]}" 2>&1 | clean "calls inside $folder go one way"
	[ "$folder" = compiler ] ||
		by=room circles "$b/obj" "${sources[@]}" 2>&1 | clean "the rooms of $folder call one way"
done
skip "calls inside kernel go one way" "six of its files still call each other in a circle"
done_testing
