#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs the tests: tests/run.sh PART... Every program speaks TAP; perl's TAP::Harness reads it. Each
# part prints its minutes. In the end stand the claims that were skipped, by reason, and last of all
# 'N passed, N failed, N skipped'.
#
#   all   everything      fast  no root, no VM      any of the parts below by name
#   or a test by its file, such as tests/tools/help.sh or build/tests/emulator/queue
set -u
cd "$(dirname "$0")/.." || exit 1
export B=build	# where the tests' own scripts find the programs
jobs=$(nproc)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0
: >"$work/skipped"

# harness SECONDS PROGRAM...: runs each program with its own time limit and adds up its claims;
# $at_once programs at once, one if unset.
harness() {
	local limit=$1 counts
	shift
	rm -rf "$work/tap"
	at_once=${at_once:-1} PERL_TEST_HARNESS_DUMP_TAP=$work/tap perl -MTAP::Harness -e '
		my ($limit, $out, @tests) = @ARGV;
		my $h = TAP::Harness->new({ verbosity => $ENV{VERBOSE} // 0, failures => 1, comments => 0,
			jobs => $ENV{at_once},
			color => 0, exec => ["timeout", "-k", "10", $limit] });
		my $a = $h->runtests(map { [$_, $_] } @tests);
		# A program that died, or ended with an error and no failed claim, is one failure.
		my $died = grep { my ($p) = $a->parsers($_); !$p->failed && $p->has_problems } $a->descriptions;
		# One that is skipped as a whole is one claim.
		my $whole = grep { my ($p) = $a->parsers($_); defined $p->skip_all } $a->descriptions;
		open my $f, ">", $out or die;
		printf $f "%d %d %d\n", scalar($a->passed) - scalar($a->skipped),
			scalar($a->failed) + $died, scalar($a->skipped) + $whole;
	' "$limit" "$work/counts" "$@"
	if read -r -a counts <"$work/counts"; then
		passed=$((passed + counts[0])) failed=$((failed + counts[1])) skipped=$((skipped + counts[2]))
	else
		failed=$((failed + 1))
	fi
	rm -f "$work/counts"
	# What failed, with the comments around it, which the harness keeps to itself.
	find "$work/tap" -type f -exec awk '/^(not )?ok/ { on = 0 }
		/^not ok/ && !/# SKIP/ { on = 1; print FILENAME ":"; printf "%s", before }
		/^(not )?ok/ { before = "" } /^#/ && !on { before = before $0 "\n" } /^Bail out/ || on' {} + |
		sed "s|^$work/tap/||" | tail -n 100
	find "$work/tap" -type f -exec awk -v tap="$work/tap/" '
		/^((not )?ok [0-9]+|1\.\.0) .*# *SKIP/ {
			file = substr(FILENAME, length(tap) + 1); claim = why = $0
			sub(/ *# *SKIP.*/, "", claim); sub(/^((not )?ok [0-9]+|1\.\.0)( - )? */, "", claim)
			sub(/.*# *SKIP */, "", why)
			print why "\t" file (claim == "" ? "" : ": " claim)
		}' {} + >>"$work/skipped"
}

# tell_skipped: what was skipped, under each reason.
tell_skipped() {
	awk -F '\t' '!($1 in claims) { reason[++n] = $1 } { claims[$1] = claims[$1] "\n    " $2 }
		END { for (i = 1; i <= n; i++) print "skipped: " reason[i] claims[reason[i]] }' "$work/skipped"
}

# claim TEXT COMMAND...: one claim that is not a TAP program.
claim() {
	local text=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		passed=$((passed + 1)); echo "ok - $text"
	else
		failed=$((failed + 1)); echo "not ok - $text"; tail -n 30 "$work/log" | sed 's/^/# /'
	fi
}

part_build() {
	claim "gcc builds everything" make -s -j"$jobs" user tests B=build CC=gcc
}

part_lint() {
	claim "clang builds everything" make -s -j"$jobs" user tests B=build/clang CC=clang
	harness 60 tests/arrows.sh
	harness 60 tests/house.sh
	harness 60 tests/harness.sh
	harness 300 tests/kbuild.sh
	harness 900 tests/lint.sh
}

# unit DIRECTORY: all tests that need neither the driver nor a whole model run, as built there.
unit() {
	local list=()
	for t in "$1"/tests/{abi,lib,emulator,compiler,tools}/* "$1"/tests/ref/selftest* \
		tests/{lib,compiler,tools}/*.sh; do
		[ -f "$t" ] && [ -x "$t" ] && list+=("$t")
	done
	harness 900 "${list[@]}"
}

# With address and undefined-behaviour sanitizers.
part_unit() {
	claim "the sanitizer build builds" make -s -j"$jobs" user tests B=build/san SAN=1 CC=gcc
	unit build/san
}

# How much of the emulator's execution its tests run.
part_coverage() {
	harness 600 tests/coverage.sh
}

part_quick() {
	at_once=$jobs unit build
}

# Perplexity against float32 on the whole text.
part_accuracy() {
	harness 900 tests/accuracy.sh
}

part_e2e() {
	local list=()
	for t in tests/e2e/*.sh; do [ -x "$t" ] && list+=("$t"); done
	[ ${#list[@]} -eq 0 ] || harness 900 "${list[@]}"
}

# uapi.sh builds the programs that races.sh runs too.
part_vm() {
	local list=(tests/vm/boot.sh tests/vm/uapi.sh)
	claim "the module builds for the VM's kernel" make -s module
	for t in tests/vm/*.sh; do [[ " ${list[*]} " = *" $t "* ]] || list+=("$t"); done
	harness 900 "${list[@]}"
}

part_fuzz() {
	local f name seconds=${FUZZ_SECONDS:-5}
	claim "the fuzzers build" make -s -j"$jobs" fuzzers B=build/fuzz CC=clang OPT="-O1 -g" \
		CFLAGS=-fsanitize=fuzzer-no-link,address,undefined\ -fno-sanitize-recover=all \
		LDFLAGS=-fsanitize=address,undefined
	for f in build/fuzz/fuzz/*; do
		[ -x "$f" ] || continue
		name=${f##*/}
		mkdir -p "$work/$name"
		claim "$name finds nothing in $seconds s" "$f" -max_total_time="$seconds" -rss_limit_mb=4096 \
			-timeout=20 -artifact_prefix="$work/" "$work/$name" \
			$(for d in "tests/fuzz/corpus/$name"; do [ -d "$d" ] && echo "$d"; done)
	done
}

part_readme() {
	[ ! -x tests/readme.sh ] || harness 900 tests/readme.sh
}

for p in "${@:-all}"; do
	case $p in
	all) set -- build lint unit coverage e2e accuracy vm fuzz readme ;;
	fast) set -- build quick e2e ;;
	*) set -- "$p" ;;
	esac
	for part; do
		start=$SECONDS
		echo "== $part"
		if [ -f "$part" ] && [ -x "$part" ]; then
			harness 900 "$part"
		elif declare -F "part_$part" >/dev/null; then
			"part_$part"
		else
			echo "tests/run.sh: no part and no test '$part'" >&2
			exit 2
		fi
		awk -v s=$((SECONDS - start)) -v p="$part" 'BEGIN { printf "== %s took %.1f minutes\n", p, s / 60 }'
	done
done
tell_skipped
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
