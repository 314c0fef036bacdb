#!/bin/bash
# SPDX-License-Identifier: MIT
# What a user of the programs gets wrong: each case ends with the exit status that the manual lists
# and one line on stderr that names the thing and the remedy, shows nothing on stdout and leaves no
# file behind. The compiler's models are in tests/compiler/bad.sh. Prints TAP.
. "$(dirname "$0")/tools.sh"

commands=(run list info bench perplexity dis)

# --- options ---

refused 2 "a command is missing; 'flightllm --help'" "no command" flightllm
refused 2 "unknown command 'frobnicate'; 'flightllm --help'" "an unknown command" flightllm frobnicate
for c in "${commands[@]}"; do
	refused 2 "unknown option --frobnicate; 'flightllm $c --help'" "an unknown option of $c" \
		flightllm $c --frobnicate
	refused 2 "unknown option -x; 'flightllm $c --help'" "an unknown letter of $c" flightllm $c -xh
	refused 2 "--json=3: this option takes no value; 'flightllm $c --help'" \
		"a value for an option of $c that takes none" flightllm $c --json=3
	refused 2 "'flightllm $c --help'" "too many words for $c" flightllm $c a.flm b.flm
done
for c in run bench perplexity dis; do
	refused 2 "takes one model file" "$c without a model" flightllm $c
done
refused 2 "--prompt needs a value; 'flightllm run --help'" "a long option without its value" \
	flightllm run fables.flm --prompt
refused 2 "-n needs a value; 'flightllm bench --help'" "a short option without its value" \
	flightllm bench fables.flm -n
refused 2 "unknown option --t; " "an option cut short so that it may be any of several" flightllm run --t 1
refused 2 "--frobnicate" "an unknown option of flightllm-cc" flightllm-cc --frobnicate
refused 2 "--frobnicate" "an unknown option of flightllm-emu" flightllm-emu --frobnicate
refused 2 "--frobnicate; see flightllm-vm --help" "an unknown option of flightllm-vm" \
	flightllm-vm --frobnicate
refused 2 "see flightllm-emu --help" "flightllm-emu's option without its value" flightllm-emu --socket
refused 2 "--mem needs a value; see flightllm-vm --help" "flightllm-vm's option without its value" \
	flightllm-vm --mem
refused 2 "--no-card takes no value" "flightllm-vm's option with a value too many" \
	flightllm-vm --no-card=yes

# --- numbers and names ---

for n in x -1 '' 1048577 1e3 99999999999999999999 0x 08x ' 8'; do
	refused 2 "-n takes a whole number from 0 to 1048576, not '$n'" "run -n '$n'" \
		flightllm run fables.flm -n "$n" --emulate
done
# counts WORD TOKENS: -n WORD is so many tokens.
counts() {
	run_in "" flightllm run fables.flm --emulate --ignore-eos -q --json -n "$1"
	ok "run -n '$1' is $2 tokens" grep -q "\"tokens\": $2,\$" "$work/out"
}
counts 010 10
counts 08 8
counts 0x10 16
refused 2 "--temp takes a number from 0 to 100, not 'nan'" "a temperature that is no number" \
	flightllm run fables.flm --temp nan --emulate
refused 2 "--top-p takes a number from 0 to 1, not '1.5'" "a probability above 1" \
	flightllm run fables.flm --top-p 1.5 --emulate
refused 2 "--seed takes a whole number" "a seed below 0" flightllm run fables.flm --seed ' -1' --emulate
refused 2 "-r takes a whole number from 1 to 100, not '0'" "no repetitions" \
	flightllm bench fables.flm -r 0 --emulate
refused 2 "--windows takes a whole number from 1" "no windows" \
	flightllm perplexity fables.flm --file x --windows 0
refused 2 "--entry takes a whole number from 0 to 7, not '8'" "an entry that is none" \
	flightllm dis fables.flm --entry 8
refused 2 "--entry 5: the program of fables.flm has 2 entries, from 0 on" "an entry beyond the last" \
	flightllm dis fables.flm --entry 5
refused 2 "--unit takes one of ld st mm mv misc sys, not 'alu'" "a unit that is none" \
	flightllm dis fables.flm --unit alu
refused 2 "--stop takes a text that is not empty" "an empty stop text" flightllm run fables.flm --stop ''
refused 2 "--threads x: this is not a number" "the emulator's threads" \
	flightllm-emu --socket s --card tiny --threads x
refused 2 "--mem 9Q: a size ends in K, M, G or T" "the emulator's memory" \
	flightllm-emu --socket s --card tiny --mem 9Q
refused 2 "at least 4 MiB" "too little memory for the emulator" \
	flightllm-emu --socket s --card tiny --mem 1
refused 2 "--bar2 17M: must be a power of two" "the emulator's window" \
	flightllm-emu --socket s --card tiny --bar2 17M
refused 2 "unknown fault 'fire'; known: hang," "a fault that is none" \
	flightllm-emu --socket s --card tiny --faults fire
refused 2 "--mem 2: is not" "the VM's memory" flightllm-vm --mem 2: true
refused 2 "--smp 0 is not a number" "the VM's processors" flightllm-vm --smp 0 true
refused 2 "--timeout soon is not a number of seconds" "the VM's time" flightllm-vm --timeout soon true
refused 2 "--accel hvf: must be kvm, tcg or auto" "the VM's accelerator" flightllm-vm --accel hvf true

# --- options that do not go together ---

refused 2 "give one of them" "a card of the machine and an emulated one" \
	flightllm run fables.flm -d 0 --emulate
refused 2 "-p 0 and -n 0 leave nothing to measure" "a measurement of nothing" \
	flightllm bench fables.flm -p 0 -n 0 --emulate
refused 2 "-p and -f both give the text" "two texts" flightllm run fables.flm -p x -f y --emulate
refused 2 "--chat reads turns from stdin; redirect 'y' to it" "a chat with a file" \
	flightllm run fables.flm --chat -f y --emulate
refused 2 "--system belongs to --chat" "a system text without a chat" \
	flightllm run fables.flm --system y --emulate
refused 2 "takes one model file and --file TEXT" "perplexity without a text" \
	flightllm perplexity fables.flm --emulate

# --- cards ---

for c in "run fables.flm" "bench fables.flm" "perplexity fables.flm --file $model/eval.txt" info; do
	refused 2 "--emulate=u9000: unknown card 'u9000'; known: u280, vhk158, u280x, tiny" \
		"an unknown card to emulate for ${c%% *}" flightllm $c --emulate=u9000
	refused 2 "--device: unknown card 'u9000'; known: u280, vhk158, u280x, tiny" \
		"an unknown card named as a device for ${c%% *}" flightllm $c -d emulate:u9000
	refused 3 "no card" "a card that is not there for ${c%% *}" flightllm $c -d /dev/accel/accel4711
done
FLIGHTLLM_DEVICE=emulate:u9000 refused 2 "FLIGHTLLM_DEVICE: unknown card 'u9000'" \
	"an unknown card in the environment" flightllm info
refused 3 "no card" "a PCI address without a card" flightllm info -d 0000:ff:1f.7
refused 2 "unknown card 'u9000'; known: u280, vhk158, u280x, tiny" "an unknown card of the emulator" \
	flightllm-emu --socket s --card u9000
refused 2 "--card u9000: must be u280, vhk158, u280x or tiny" "an unknown card of the VM" \
	flightllm-vm --card u9000 true
refused 2 "--card u9000: unknown card; known: u280, vhk158, u280x, tiny" "an unknown card of the compiler" \
	flightllm-cc "$model" -o x.flm --card u9000
if [ -e /sys/class/accel/accel0 ]; then
	skip "no card in this machine: status 3" "there is one"
else
	refused 3 "no card: is flightllm.ko loaded ('modprobe flightllm')" "no card in this machine" flightllm list
	refused 3 "--emulate needs neither" "a model and no card" flightllm run fables.flm
fi
FLIGHTLLM_CARD_LIBRARY=/nowhere/card.so refused 3 "/nowhere/card.so" "the card's library is missing" \
	flightllm run fables.flm --emulate

# --- model files ---

# header FILE PERL: changes the 64 bytes of the header, $h, and gives it a checksum again.
header() {
	perl -0777 -pe '
		sub crc { my $c = ~0 & 0xffffffff; for (unpack("C*", $_[0])) { $c ^= $_;
			$c = $c >> 1 ^ ($c & 1 ? 0x82f63b78 : 0) for 1 .. 8 } ~$c & 0xffffffff }
		my $h = substr($_, 0, 64); my $n = unpack("V", substr($h, 36, 4));
		'"$2"';
		substr($h, 60, 4) = pack("V", 0);
		substr($h, 60, 4) = pack("V", crc($h . substr($_, 64, 64 * $n)));
		substr($_, 0, 64) = $h' -i "$1"
}
cp fables.flm newer.flm && printf '\x09' | dd of=newer.flm bs=1 seek=8 conv=notrunc status=none
cp fables.flm isa.flm && printf '\x09' | dd of=isa.flm bs=1 seek=12 conv=notrunc status=none
cp fables.flm unknown-card.flm && header unknown-card.flm 'substr($h, 16, 16) = pack("a16", "u55")'
cp fables.flm newer-isa.flm && header newer-isa.flm 'substr($h, 14, 2) = pack("v", 9)'
head -c 1000000 fables.flm >cut.flm
cp fables.flm damaged.flm && printf 'damage' | dd of=damaged.flm bs=1 seek=2000000 conv=notrunc status=none
: >empty.flm
for ((i = 0; i < 300; i++)); do echo "a king and a queen"; done >long.txt
mkfifo pipe
for c in run info bench dis "perplexity --file $model/eval.txt"; do
	card=--emulate
	[[ $c =~ ^(info|dis) ]] && card=
	refused 1 "nothing.flm: no such file; flightllm-cc makes one" "$c: a missing file" flightllm $c nothing.flm $card
	refused 1 "empty.flm is no .flm file; flightllm-cc makes one" "$c: an empty file" flightllm $c empty.flm $card
	refused 1 "long.txt is no .flm file; flightllm-cc makes one" "$c: a file of another kind" \
		flightllm $c long.txt $card
	refused 1 ". is no .flm file; flightllm-cc makes one" "$c: a folder" flightllm $c . $card
	refused 1 "pipe is no .flm file; flightllm-cc makes one" "$c: a pipe" flightllm $c pipe $card
	refused 1 "its header says" "$c: a truncated file" flightllm $c cut.flm $card
	refused 8 "newer.flm has file version 9.0" "$c: a newer file" flightllm $c newer.flm $card
	refused 8 "compile the model with the flightllm-cc of this release" "$c: the remedy for it" \
		flightllm $c newer.flm $card
	refused 8 "isa.flm is for instruction set 9.1" "$c: another instruction set" flightllm $c isa.flm $card
done
refused 1 "is damaged (CRC32C differs); copy it again" "damaged weights" flightllm run damaged.flm --emulate
refused 1 "tiny.flm has no tokenizer; compile it from a directory with tokenizer.model" \
	"run: a model without tokenizer" flightllm run tiny.flm --emulate -p x
refused 1 "tiny.flm has no tokenizer; compile it from" "perplexity: a model without tokenizer" \
	flightllm perplexity tiny.flm --emulate --file "$model/eval.txt"
# Damage in the weights shows only when they are loaded.
cp tiny.flm torn.flm && printf 'damage' | dd of=torn.flm bs=1 seek=100000 conv=notrunc status=none
refused 1 "is damaged (CRC32C differs)" "bench: damaged weights" flightllm bench torn.flm --emulate
for c in "run -p x" "perplexity --file $model/eval.txt"; do
	refused 1 "torn.flm has no tokenizer" "${c%% *}: no tokenizer, which shows before weights are loaded" \
		flightllm $c torn.flm --emulate
done
refused 8 "was compiled for card u280 (3 cores), this is tiny (2 cores); compile it with --card tiny" \
	"a model for another card" flightllm run fables.flm --emulate=tiny
for c in run bench "perplexity --file $model/eval.txt"; do
	refused 8 "newer-isa.flm: needs instruction set 1.9, card emulate:u280 has 1.1; compile it with the" \
		"$c: a model for a newer card" flightllm $c newer-isa.flm --emulate
done
refused 8 "unknown-card.flm was compiled for card u55; unknown card 'u55'; known: u280, vhk158, u280x, tiny" \
	"a model for a card that nobody knows" flightllm run unknown-card.flm --emulate

# --- texts ---

# fables-3m was made for 256 positions: compiling it again would not help.
more="compile a model that was made for more positions, with a larger --context"
refused 1 "of the context's 256 are in use; shorten it, or $more" "a prompt longer than the context" \
	flightllm run fables.flm --emulate -f long.txt
refused 1 "of the context's 256 are in use; shorten it, or $more" "a turn longer than the context" \
	flightllm run fables.flm --emulate --chat -p "$(cat long.txt)"
run_in "" flightllm run fables.flm --emulate --temp 0 --ignore-eos -n 1000 -p "Once upon a time"
ok "run: the note of a context that is full names what holds more" grep -qx \
	"flightllm run: the context of 256 tokens is full; a model that was made for more positions holds more, compiled with a larger --context" "$work/err"
for c in "run -f" "perplexity --file"; do
	refused 1 "missing.txt: No such file" "${c%% *}: a text that is missing" \
		flightllm ${c%% *} fables.flm --emulate ${c##* } missing.txt
	refused 1 ".: Is a directory" "${c%% *}: a text that is a folder" \
		flightllm ${c%% *} fables.flm --emulate ${c##* } .
done
refused 1 "empty.flm has too little text to score" "perplexity of nothing" \
	flightllm perplexity fables.flm --emulate --file empty.flm
"$b/flightllm-cc" "$model" --context 1 -o one.flm --no-progress >/dev/null
refused 1 "one.flm has a context of one token, which predicts none; compile the model with a larger --context" \
	"perplexity with a context of 1" flightllm perplexity one.flm --emulate --file "$model/eval.txt"

# --- references ---

# reference FOLDER PERL: a copy of the model whose config.json was changed by PERL, $j is the object.
reference() {
	mkdir "$1" && cp "$model"/{model.safetensors,tokenizer.model} "$1" &&
		perl -MJSON::PP -0777 -pe 'my $j = decode_json($_); '"$2"'; $_ = encode_json($j)' \
			"$model/config.json" >"$1/config.json"
}
reference shorter '$j->{max_position_embeddings} = 128'
refused 1 "shorter has max_position_embeddings 128, the compiled model a context of 256; name the directory" \
	"a reference with a shorter context" \
	flightllm perplexity fables.flm --emulate --file "$model/eval.txt" --reference shorter
refused 1 "has vocab_size 2048, the compiled model 300; name the directory that it was compiled from" \
	"a reference with another vocabulary" \
	flightllm perplexity tiny.flm --emulate --file "$model/eval.txt" --reference "$model"
with_change 1 12 @ <fables.flm >wider.flm	# the feed-forward size, 512: its low byte is 64 then
refused 1 "has intermediate_size 512, the compiled model 576; name the directory that it was compiled from" \
	"a reference that differs in its feed-forward only" \
	flightllm perplexity wider.flm --emulate --file "$model/eval.txt" --reference "$model"
refused 1 "nowhere: No such file or directory; name the directory that holds config.json" \
	"a reference that is not there" \
	flightllm perplexity fables.flm --emulate --file "$model/eval.txt" --reference nowhere

# --- places ---

refused 1 "--socket /nowhere/s: No such file or directory; name a place" "a socket in no folder" \
	flightllm-emu --card tiny --socket /nowhere/s
refused 1 "long.txt: exists and is not a socket; choose another path" "a socket where a file is" \
	flightllm-emu --card tiny --socket long.txt
refused 1 "--trace /nowhere/t: No such file or directory; name a file" "a trace in no folder" \
	flightllm-emu --card tiny --socket s --trace /nowhere/t

# A service starts with an empty environment: then the passwd entry says where the cache is.
cache_of_nobody=$(getent passwd "$(id -u)" | cut -d : -f 6)/.cache/flightllm
for script in "$b/flightllm-vm" "$source/tools/setup.sh"; do
	ok "${script##*/} --help needs no variable" grep -qi "^usage: .*${script##*/}" <(env -i "$script" --help)
done
ok "setup.sh finds its cache without HOME" \
	grep -qxF "$cache_of_nobody." <(env -i "$source/tools/setup.sh" --help)
ok "and by HOME where that is set" grep -qxF "/nowhere/.cache/flightllm." \
	<(env -i HOME=/nowhere "$source/tools/setup.sh" --help)
ok "and by XDG_CACHE_HOME before that" grep -qxF "/elsewhere/flightllm." \
	<(env -i HOME=/nowhere XDG_CACHE_HOME=/elsewhere "$source/tools/setup.sh" --help)
env -i XDG_CACHE_HOME=/nowhere "$b/flightllm-vm" true 2>"$work/err"
ok "without HOME, flightllm-vm says what is missing" \
	grep -q "QEMU is missing in /nowhere/flightllm; run tools/setup.sh" "$work/err"
env -i "$b/flightllm-vm" --status >"$work/out" 2>"$work/err"
ok "flightllm-vm looks there too" \
	grep -qE "^cache +$cache_of_nobody$|QEMU is missing in $cache_of_nobody;" "$work/out" "$work/err" ||
	sed 's/^/# /' "$work/err"
FLIGHTLLM_CACHE=/nowhere refused 1 "QEMU is missing in /nowhere; run tools/setup.sh" "a VM without QEMU" \
	flightllm-vm true

# A set-up that looks complete: what follows is refused before any of it is used.
mkdir -p cache/qemu cache/kernel && : >cache/qemu/.complete && echo 6.12 >cache/kernel/version
export FLIGHTLLM_CACHE=$PWD/cache
refused 1 "there is no guest kernel in /nowhere; run tools/setup.sh, or name its folder with --kernel" \
	"a VM without a kernel" flightllm-vm --kernel /nowhere true
refused 1 "cannot read the module /nowhere; run make module" "a module that is not there" \
	flightllm-vm --module /nowhere true
refused 1 "long.txt is not a kernel module; run make module" "a module that is none" \
	flightllm-vm --module long.txt true
refused 1 "cannot make the folder long.txt/x" "a run's folder that cannot be made" \
	flightllm-vm --no-module --run-dir long.txt/x true
mkdir used && echo "4711 0" >used/pids && echo "a line" >used/serial && echo "another" >kept.log
refused 2 "/used is not empty" "a run's folder that is another's" \
	flightllm-vm --no-module --run-dir used --serial-log kept.log true
ok "which stays as it is" [ "$(cat used/pids used/serial kept.log)" = "4711 0
a line
another" ]
refused 2 "/a b: blanks, commas and quotes do not work" "a run's folder with a blank" \
	flightllm-vm --no-module --run-dir "a b" true
mkdir "a b"
TMPDIR=$PWD/a\ b refused 2 "/a b: blanks, commas and quotes do not work" \
	"a folder for temporary files with a blank" flightllm-vm --no-module true
refused 1 "cannot write the log /nowhere/log; name another file" "a log in no folder" \
	flightllm-vm --no-module --serial-log /nowhere/log true
TMPDIR=/nowhere refused 1 "cannot make a folder in /nowhere; name another one in TMPDIR" \
	"a folder for temporary files that is not there" flightllm-vm --no-module true

# --- permissions: root has all of them ---

as=()
[ "$(id -u)" -ne 0 ] || as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
chmod 755 "$work" && mkdir mine && cp fables.flm unreadable.flm && cp long.txt unreadable.txt && chmod 0 unreadable.*

# denied WORDS WHAT PROGRAM ARGUMENT...: as somebody else.
denied() {
	local words=$1 what=$2 wrong before
	shift 2
	before=$(find . 2>/dev/null | sort)
	"${as[@]}" "$b/$1" "${@:2}" >"$work/out" 2>"$work/err" </dev/null
	status=$?
	wrong=$(is_refusal 4 "$words" "$1" "$before")
	ok "$what: status 4" [ -z "$wrong" ] || { echo "$wrong"; sed 's/^/# got /' "$work/err"; }
}

if "${as[@]}" "$b/flightllm" --version >/dev/null 2>&1; then
	denied "unreadable.flm: Permission denied; ask its owner" "a model that may not be read" \
		flightllm info unreadable.flm
	denied "unreadable.txt: Permission denied; name a text that you may read" "a text that may not be read" \
		flightllm run fables.flm --emulate -f unreadable.txt
	denied "unreadable.flm: Permission denied; ask its owner" "a model that may not be loaded" \
		flightllm run unreadable.flm --emulate
	chmod 555 mine
	denied "--socket mine/s: Permission denied; name a place" "a socket where one may not be made" \
		flightllm-emu --card tiny --socket mine/s
	# A script must be read, which is more than run: not in another's home.
	if [ -e /dev/kvm ] && ! "${as[@]}" test -w /dev/kvm &&
		"${as[@]}" "$b/flightllm-vm" --version >/dev/null 2>&1; then
		denied "no permission for /dev/kvm; join the group" "KVM that may not be used" \
			flightllm-vm --no-card --no-module --accel kvm true
	fi
else
	skip "permissions" "no other user can run the programs here"
fi
if [ ! -e /dev/kvm ]; then
	refused 1 "there is no /dev/kvm; load kvm_intel or kvm_amd, or use --accel tcg" "a VM without KVM" \
		flightllm-vm --no-card --no-module --accel kvm true
elif [ "$(id -u)" -eq 0 ] && unshare -m mount -t tmpfs none /dev 2>/dev/null; then
	unshare -m sh -c 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 &&
		exec "$@"' - "$b/flightllm-vm" --no-card --no-module --accel kvm true >"$work/out" 2>"$work/err"
	status=$?
	ok "a VM without KVM: status 1" grep -q "there is no /dev/kvm; load kvm_intel or kvm_amd, or use --accel tcg" "$work/err"
	ok "in one line" [ "$status.$(wc -l <"$work/err")" = 1.1 ] || sed 's/^/# got /' "$work/err"
else
	skip "a VM without KVM" "/dev/kvm cannot be hidden here"
fi

# --- an output that takes nothing ---

# full WHAT PROGRAM ARGUMENT...
full() {
	local what=$1
	shift
	"$b/$1" "${@:2}" >/dev/full 2>"$work/err" </dev/null
	status=$?
	ok "$what on a full disk: status 1" [ "$status" = 1 ]
	ok "$what says so in one line" [ "$(grep -c 'standard output' "$work/err").$(wc -l <"$work/err")" = 1.1 ] ||
		sed 's/^/# got /' "$work/err"
}
for p in flightllm flightllm-cc flightllm-emu flightllm-vm; do
	full "$p --help" $p --help
	full "$p --version" $p --version
done
for c in "${commands[@]}"; do
	full "$c --help" flightllm $c --help
done
full "run" flightllm run fables.flm --emulate -q -n 20
full "run --json" flightllm run fables.flm --emulate -q -n 20 --json
full "info" flightllm info fables.flm
full "dis" flightllm dis fables.flm
full "bench" flightllm bench fables.flm --emulate -r 1 -p 1 -n 1
full "perplexity" flightllm perplexity fables.flm --emulate --file "$model/eval.txt" --windows 1
"$b/flightllm" run fables.flm --emulate -q -n 20 >&- 2>"$work/err"
status=$?
ok "a closed standard output is none: status 1" [ "$status" = 1 ]
ok "and is said in one line" grep -q "standard output: Bad file descriptor" "$work/err"

# A reader that has enough ends the run, and nobody needs to be told.
for c in "run fables.flm --emulate -q -n 200" "dis fables.flm --json"; do
	"$b/flightllm" $c 2>"$work/err" | head -c 10 >/dev/null
	statuses=${PIPESTATUS[*]}
	ok "${c%% *}: a reader that has enough ends it" [ "$statuses" = "141 0" ]
	ok "without a word" [ ! -s "$work/err" ] || sed 's/^/# got /' "$work/err"
done
done_testing
