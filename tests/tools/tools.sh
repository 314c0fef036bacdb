# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by the tests of the programs: claims (tests/tap.sh), a folder to be in with fables.flm and
# tiny.flm, which has no tokenizer and is for card tiny, and runs whose outputs are looked at.
#
#	. tests/tools/tools.sh
#	run_in "input" flightllm run fables.flm --emulate
#	ok "it ends well" [ "$status" = 0 ]
#	refused 2 "unknown command 'x'" "an unknown command" flightllm x
#	done_testing

. "$(dirname "${BASH_SOURCE[0]}")/../tap.sh"
b=$(realpath "$b") model=$PWD/tests/data/fables-3m source=$PWD
export FLIGHTLLM_CARD_LIBRARY=$b/libflightllm-card.so
unset FLIGHTLLM_DEVICE
mkdir "$work/box" && cd "$work/box" || exit 1
"$b/flightllm-cc" "$model" -o fables.flm --no-progress >/dev/null || exit 1
"$b/flightllm-cc" --synthetic tiny --card tiny -o tiny.flm --no-progress >/dev/null || exit 1

# with_change KIND AT BYTES <FILE.flm: with these bytes in its section of a kind, and all checksums right.
with_change() {
	kind=$1 at=$2 bytes=$3 perl -0777 -pe 'sub crc { my $c = ~0 & 0xffffffff; for (unpack("C*", $_[0])) { $c ^= $_;
			$c = $c >> 1 ^ ($c & 1 ? 0x82f63b78 : 0) for 1 .. 8 } pack("V", ~$c & 0xffffffff) }
		my $n = unpack("V", substr($_, 36, 4));
		for my $row (map { 64 * $_ } 1 .. $n) {
			next if unpack("V", substr($_, $row, 4)) != $ENV{kind};
			my ($at, $bytes) = unpack("Q<2", substr($_, $row + 8, 16));
			substr($_, $at + $ENV{at}, length $ENV{bytes}) = $ENV{bytes};
			substr($_, $row + 44, 4) = crc(substr($_, $at, $bytes)) }
		substr($_, 60, 4) = "\0" x 4; substr($_, 60, 4) = crc(substr($_, 0, 64 + 64 * $n))'
}

# run_in INPUT PROGRAM ARGUMENT...: leaves status, $work/out and $work/err.
run_in() {
	local input=$1 program=$2
	shift 2
	printf '%s' "$input" | timeout 60 "$b/$program" "$@" >"$work/out" 2>"$work/err"
	status=${PIPESTATUS[1]}
}

# One line that begins with the program's name and has these words; nothing on stdout, no file left.
is_refusal() {
	local want=$1 words=$2 program=$3 before=$4
	[ "$status" = "$want" ] || echo "# status $status"
	[ "$(wc -l <"$work/err")" = 1 ] || echo "# not one line"
	grep -q "^${program}[a-z ]*: " "$work/err" || echo "# it does not begin with the program's name"
	grep -qF -- "$words" "$work/err" || echo "# without '$words'"
	[ ! -s "$work/out" ] || echo "# something on stdout"
	[ "$before" = "$(find . | sort)" ] || echo "# a file is left"
}

# refused STATUS WORDS WHAT PROGRAM ARGUMENT...
refused() {
	local want=$1 words=$2 what=$3 wrong before
	shift 3
	before=$(find . | sort)
	run_in "" "$@"
	wrong=$(is_refusal "$want" "$words" "$1" "$before")
	ok "$what: status $want" [ -z "$wrong" ] || { echo "$wrong"; sed 's/^/# got /' "$work/err"; }
}
