#!/bin/bash
# SPDX-License-Identifier: MIT
# What a user of flightllm gets wrong: each case ends with the exit status that its help lists and
# one line on stderr that names the thing and the remedy, shows nothing on stdout and leaves no
# file behind. Prints TAP.
cd "$(dirname "$0")/../.." || exit 1
b=$(realpath "${B:-build}") model=$PWD/tests/data/fables-3m
export FLIGHTLLM_CARD_LIBRARY=$b/libflightllm-card.so
unset FLIGHTLLM_DEVICE
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work" "$work.out" "$work.err"' EXIT
cd "$work" || exit 1
n=0 failed=0

# error STATUS WORDS WHAT ARGUMENT...: flightllm refuses.
error() {
	local want=$1 words=$2 what=$3 status before after wrong=
	shift 3
	before=$(find . | sort)
	"$b/flightllm" "$@" >"$work.out" 2>"$work.err" </dev/null
	status=$?
	after=$(find . | sort)
	[ "$status" -eq "$want" ] || wrong+="# status $status"$'\n'
	[ "$(wc -l <"$work.err")" -eq 1 ] || wrong+="# not one line"$'\n'
	grep -qF -- "$words" "$work.err" || wrong+="# without '$words'"$'\n'
	[ ! -s "$work.out" ] || wrong+="# something on stdout"$'\n'
	[ "$before" = "$after" ] || wrong+="# a file is left"$'\n'
	n=$((n + 1))
	if [ -z "$wrong" ]; then
		echo "ok $n - $what: status $want"
	else
		failed=1
		echo "not ok $n - $what: status $want"
		printf '%s' "$wrong"
		sed 's/^/# got /' "$work.err"
	fi
}

"$b/flightllm-cc" "$model" -o fables.flm --no-progress >/dev/null || exit 1
"$b/flightllm-cc" --synthetic tiny --card tiny -o tiny.flm --no-progress >/dev/null || exit 1
cp fables.flm newer.flm && printf '\x09' | dd of=newer.flm bs=1 seek=8 conv=notrunc status=none
cp fables.flm isa.flm && printf '\x09' | dd of=isa.flm bs=1 seek=12 conv=notrunc status=none
head -c 1000000 fables.flm >cut.flm
cp fables.flm damaged.flm && printf 'damage' | dd of=damaged.flm bs=1 seek=2000000 conv=notrunc status=none
for ((i = 0; i < 300; i++)); do echo "a king and a queen"; done >long.txt

error 2 "'frobnicate' is no command; 'flightllm --help'" "an unknown command" frobnicate
error 2 "takes one model file; 'flightllm run --help'" "run without a model" run
error 2 "takes one model file; 'flightllm run --help'" "run with two models" run a.flm b.flm
error 2 "-n takes a whole number from 0 to 1048576, not 'x'" "a number that is none" \
	run fables.flm -n x --emulate
error 2 "not '-1'" "a negative number" run fables.flm -n -1 --emulate
error 2 "not 'nan'" "a temperature that is no number" run fables.flm --temp nan --emulate
error 2 "takes one model file and --file TEXT" "perplexity without a text" perplexity fables.flm --emulate

error 3 "no card" "a card that is not there" run fables.flm -d /dev/accel/accel4711
error 3 "no card" "info about a card that is not there" info -d 0000:ff:1f.7
error 1 "no card is called 'u9000'; u280, vhk158, u280x and tiny are" "an unknown profile" \
	run fables.flm --emulate=u9000
FLIGHTLLM_CARD_LIBRARY=/nowhere/card.so error 3 "/nowhere/card.so" "the card's library is missing" \
	run fables.flm --emulate

error 1 "nothing.flm: no such file; flightllm-cc makes one" "a missing file" run nothing.flm --emulate
error 1 "long.txt is no .flm file; flightllm-cc makes one" "a file of another kind" run long.txt --emulate
error 1 ". is no .flm file; flightllm-cc makes one" "a folder" run . --emulate
error 1 "its header says" "a truncated file" run cut.flm --emulate
error 1 "is damaged (CRC32C differs); copy it again" "damaged weights" run damaged.flm --emulate
error 1 "tiny.flm has no tokenizer; compile it from a directory with tokenizer.model" \
	"a model without tokenizer" run tiny.flm --emulate -p x
error 8 "newer.flm has file version 9.0" "a newer file" run newer.flm --emulate
error 8 "compile the model with the flightllm-cc of this release" "a newer file's info" info newer.flm
error 8 "isa.flm is for instruction set 9.0" "another instruction set" run isa.flm --emulate
error 8 "was compiled for card u280 (3 cores), this is tiny (2 cores); compile it with --card tiny" \
	"a model for another card" run fables.flm --emulate=tiny

error 1 "of the context's 256 are in use; shorten it" "a prompt longer than the context" \
	run fables.flm --emulate -f long.txt
error 1 "missing.txt: No such file" "a prompt file that is missing" run fables.flm --emulate -f missing.txt
error 1 "missing.txt: No such file" "a text that is missing" perplexity fables.flm --emulate --file missing.txt
echo "1..$n"
exit $failed
