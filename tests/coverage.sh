#!/bin/bash
# SPDX-License-Identifier: MIT
# How much of the card's execution the emulator's own tests run: builds with gcov's counters into
# build/cov, runs tests/emulator, prints the share of lines of each file and, with -v, the lines
# that were never run. Prints TAP; fails below 90 % over all files together.
. "$(dirname "$0")/tap.sh"
least=90
files=(core decode dot exchange exec expand math move mpe sfu topk unit)
at=build/cov
verbose=${1:-}

mapfile -t sources < <(printf '%s\n' tests/emulator/*.c)
programs=("${sources[@]/#/$at/}")
programs=("${programs[@]%.c}")
make -s -j"$(nproc)" B=$at CC=gcc OPT="-O0 -g" CFLAGS="--coverage -fprofile-update=atomic" LDFLAGS=--coverage \
	$at/flightllm-emu "${programs[@]}" || { echo "Bail out! the build with counters failed"; exit 1; }
find $at -name '*.gcda' -delete

for program in "${programs[@]}"; do
	ok "${program##*/} passes with counters" timeout 300 "$program"
done

# gcov prints "File 'NAME'" and then "Lines executed:SHARE% of LINES".
run=0 all=0
for file in "${files[@]}"; do
	read -r share lines < <(gcov -n -o "$at/obj/emulator/core" "emulator/core/$file.c" 2>/dev/null |
		awk -v f="File 'emulator/core/$file.c'" '$0 == f { on = 1; next }
			on { gsub(/Lines executed:|%/, ""); print $1, $3; exit }')
	if [ -z "${lines:-}" ]; then
		echo "Bail out! gcov knows no emulator/core/$file.c"
		exit 1
	fi
	ran=$(awk -v s="$share" -v l="$lines" 'BEGIN { printf "%.0f", s * l / 100 }')
	run=$((run + ran)) all=$((all + lines))
	printf '# %-12s %4d of %4d lines, %6.2f %%\n' "$file.c" "$ran" "$lines" "$share"
	[ "$verbose" != -v ] || gcov -t -o "$at/obj/emulator/core" "emulator/core/$file.c" 2>/dev/null |
		awk -v f="Source:emulator/core/$file.c" '/Source:/ { on = index($0, f) } on && /#####:/' | sed 's/^/# /'
done
share=$(awk -v r=$run -v a=$all 'BEGIN { printf "%.2f", 100 * r / a }')
ok "$run of $all lines of execution are run, $share %, at least $least %" \
	[ $((run * 100)) -ge $((all * least)) ]
done_testing
